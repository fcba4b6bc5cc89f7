// The way a reader goes, from the overview to the answer why. On a running daemon (`facetd demo`) when FACETD_PAGE says
// where, else on the mock. FACETD_SHOTS: a folder for what it looks like.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test as base, expect, type Page } from "@playwright/test";
import { Mock } from "../mock/server.mjs";
import { watched } from "./fixtures";

const DESK = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };
/** How much of the charts there should be before they are pictured. */
const CHARTED_MS = Number(process.env["FACETD_CHARTED_MS"] ?? 0);

const test = base.extend<{ at: string }>({
  at: async ({}, use) => {
    const running = process.env["FACETD_PAGE"];
    if (running) return use(running.replace(/\/?$/, "/"));
    const mock = new Mock();
    await use(`${await mock.listen(0)}/`);
    mock.close();
  },
});

async function shot(page: Page, name: string): Promise<void> {
  const folder = process.env["FACETD_SHOTS"];
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

/** How far something sticks out on the right. */
function overflow(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
}

test("a reader sees changes arrive, looks at a cluster and asks why two faces are together", async ({ page, at }) => {
  test.setTimeout(120_000 + CHARTED_MS);
  const { complaints, elsewhere } = watched(page, at);
  await page.setViewportSize(DESK);
  await page.emulateMedia({ colorScheme: "light" });
  const answer = await page.goto(at);
  expect(answer?.headers()["content-security-policy"]).toContain("default-src 'self'");

  await test.step("the daemon is there, and its numbers move", async () => {
    await expect(page.locator(".connection")).toHaveText(/live|not ready/);
    const feed = page.locator(".overview .feed");
    const newest = feed.locator("li").first();
    await expect(newest).toBeVisible({ timeout: 30_000 });
    const before = await newest.getAttribute("data-key");
    await expect(newest).not.toHaveAttribute("data-key", before ?? "", { timeout: 60_000 });
    await expect(page.locator(".chart .line").first()).toBeAttached();
    await expect(page.locator(".sizes tbody tr").first()).toBeVisible();
    const opened = Date.now();
    await expect.poll(() => Date.now() - opened, { timeout: CHARTED_MS + 5000 }).toBeGreaterThanOrEqual(CHARTED_MS);
    await shot(page, "overview");
  });

  await test.step("on a phone nothing sticks out, and in the dark it is dark", async () => {
    await page.setViewportSize(PHONE);
    expect(await overflow(page)).toBe(0);
    await shot(page, "phone");
    await page.setViewportSize(DESK);
    await page.emulateMedia({ colorScheme: "dark" });
    await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
    await shot(page, "dark");
    await page.emulateMedia({ colorScheme: "light" });
  });

  await test.step("a cluster has members and a picture", async () => {
    await page.locator(".clusters tbody a").first().click();
    await expect(page.getByRole("heading", { level: 1 })).toHaveText(/^#\d+$/);
    await expect(page.locator(".members tbody tr").nth(1)).toBeVisible();
    await expect(page.locator(".face-dot.member").nth(1)).toBeVisible();
  });

  await test.step("why two of them are together", async () => {
    const members = page.locator(".members tbody tr");
    await members.first().getByRole("button", { name: /as A$/ }).click();
    await expect(page.locator(".answer .linkages, .answer .note").first()).toBeVisible();
    // The newest of the page: the older two are often linked directly.
    await members.last().getByRole("button", { name: /as B$/ }).click();
    await expect(page.locator(".verdict")).toContainText(/Together|Apart/);
    await expect(page).toHaveURL(/#\/[^/]+\/\d+\?a=.+&b=.+/);
    if (await page.locator(".chain").count())
      await expect(page.locator(".chain .number").first()).toHaveText(/^>?[01]\.\d\d$/);
    await shot(page, "cluster");
    await page.emulateMedia({ colorScheme: "dark" });
    await shot(page, "cluster-dark");
    await page.setViewportSize(PHONE);
    expect(await overflow(page)).toBe(0);
    await shot(page, "cluster-phone");
  });

  expect(complaints).toEqual([]);
  expect(elsewhere).toEqual([]);
});
