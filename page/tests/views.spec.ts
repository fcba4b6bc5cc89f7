// What the page shows, and that it can be driven.

import type { Page } from "@playwright/test";
import { expect, test } from "./fixtures";

const title = (page: Page) => page.getByRole("heading", { level: 1 });

test("a collection where nothing came yet, until something does", async ({ page, mock, at }) => {
  await page.goto(`${at}/#/empty`);
  await expect(page.locator(".collection")).toContainText("No faces yet");
  mock.collection("empty").arrive(undefined);
  await expect(page.locator(".clusters tbody tr")).toHaveCount(1);
});

test("what is not there", async ({ page, at, watch }) => {
  watch.allowed.push(/404/);
  await page.goto(`${at}/#/lobby/999999`);
  await expect(page.locator("main")).toContainText("No such cluster");
  await page.getByRole("link", { name: "All clusters of lobby" }).click();
  await expect(page.locator(".clusters tbody tr").first()).toBeVisible();
  await page.goto(`${at}/#/nowhere`);
  await expect(page.locator(".collection")).toContainText("No such collection");
  await page.goto(`${at}/#/lobby/1?a=nobody&b=noone`);
  await expect(page.locator(".answer")).toContainText("No such face: no face nobody in collection lobby.");
});

test("a cluster that merges away while looked at is followed", async ({ page, mock, at }) => {
  mock.moving = false;
  const gate = mock.collection("gate-7");
  const [into, from] = [gate.arrive(undefined).cluster, gate.arrive(undefined).cluster];
  await page.goto(`${at}/#/gate-7/${from.id}`);
  await expect(title(page)).toHaveText(`#${from.id}`);
  await expect.poll(() => gate.listeners.size).toBe(1);
  gate.merge(into, from);
  await expect(title(page)).toHaveText(`#${into.id}`);
  await expect(page.locator(".banner")).toContainText(
    `Cluster #${from.id} merged into #${into.id}, which you look at now.`,
  );
  await expect(page).toHaveURL(`${at}/#/gate-7/${into.id}`);
  await page.getByRole("button", { name: "Dismiss" }).click();
  await expect(page.locator(".banner")).toHaveCount(0);

  // And an old link to one that has merged, twice by now.
  const third = gate.arrive(undefined).cluster;
  third.pinned = true;
  gate.merge(third, into);
  await page.goto(`${at}/#/gate-7/1`);
  await page.goto(`${at}/#/gate-7/${from.id}`);
  await expect(title(page)).toHaveText(`#${third.id}`);
  await expect(page.locator(".banner")).toContainText(`#${from.id} merged into #${third.id}`);
});

test("a cluster that is erased while looked at", async ({ page, mock, at, watch }) => {
  watch.allowed.push(/404/);
  mock.moving = false;
  const gate = mock.collection("gate-7");
  const face = gate.arrive(undefined);
  await page.goto(`${at}/#/gate-7/${face.cluster.id}`);
  await expect(page.locator(".members tbody tr")).toHaveCount(1);
  await expect.poll(() => gate.listeners.size).toBe(1);
  gate.erase(face);
  await expect(page.locator("main")).toContainText(`Cluster #${face.cluster.id} is gone`);
});

test("a cluster of one", async ({ page, mock, at }) => {
  mock.moving = false;
  const { cluster } = mock.collection("gate-7").arrive(undefined);
  await page.goto(`${at}/#/gate-7/${cluster.id}`);
  await expect(page.locator(".facts")).toContainText("1 face ·");
  await expect(page.locator(".face-dot.member")).toHaveCount(1);
  await expect(page.getByRole("button", { name: "Next page" })).toBeHidden();
});

test("a cluster of 5,000 is paged", async ({ page, at }) => {
  await page.goto(`${at}/#/archive/1`);
  const where = page.locator(".members-panel header .unit");
  await expect(where).toHaveText("1–100 of 5,000");
  await expect(page.locator(".picture-panel header")).toContainText("the first 200 of 5,000 members");
  const first = await page.locator(".members tbody tr").first().getAttribute("data-key");
  await page.getByRole("button", { name: "Next page" }).click();
  await expect(where).toHaveText("101–200 of 5,000");
  await expect(page.locator(".members tbody tr")).toHaveCount(100);
  await page.getByRole("button", { name: "Previous page" }).click();
  await expect(where).toHaveText("1–100 of 5,000");
  await expect(page.locator(".members tbody tr").first()).toHaveAttribute("data-key", first ?? "");
});

test("text from elsewhere is text", async ({ page, mock, at }) => {
  mock.moving = false;
  await page.goto(`${at}/#/gate-7`);
  await expect(page.locator(".clusters tbody tr").filter({ hasText: "#1<" })).toContainText(
    "<img src=x onerror=alert(1)> & co",
  );
  await page.goto(`${at}/#/gate-7/1`);
  await expect(page.locator(".titles .name")).toHaveText("<img src=x onerror=alert(1)> & co");
  await expect(page.locator(".members tbody tr").first().locator("th")).toHaveText("<script>alert('face')</script>");
  expect(await page.locator("img, main script").count()).toBe(0);
  // Ids with all that a path stumbles over can be asked about and found.
  await page.getByRole("button", { name: "Ask about …/../.. as A", exact: true }).click();
  await page.getByRole("button", { name: "Ask about 100%/ä?#&=+ as B", exact: true }).click();
  await expect(page.locator(".verdict")).toContainText("Together");
  const link = page.url();
  await page.goto(`${at}/#/lobby`);
  await page.goto(link);
  await expect(page.locator(".verdict")).toContainText("Together");
  await page.getByLabel("Find a face by its id").fill("100%/ä?#&=+");
  await page.getByLabel("Find a face by its id").press("Enter");
  await expect(page.locator(".verdict")).toContainText("of this face");
  await expect(page).toHaveURL(/#\/gate-7\/1\?a=100%25%2F%C3%A4%3F%23%26%3D%2B$/);
});

test("a cluster is named and pinned", async ({ page, mock, at }) => {
  mock.moving = false;
  const cluster = [...mock.collection("lobby").clusters.values()].find(({ name }) => name === undefined);
  await page.goto(`${at}/#/lobby/${cluster?.id}`);
  const name = page.getByLabel("Name", { exact: true });
  const save = page.getByRole("button", { name: "Save name" });
  await expect(save).toBeDisabled();
  await name.fill("Katherine");
  await name.press("Enter");
  await expect(page.locator(".titles .name")).toHaveText("Katherine");
  await page.getByRole("button", { name: "Pin", exact: true }).click();
  await expect(page.getByRole("button", { name: "Pinned" })).toHaveAttribute("aria-pressed", "true");
  expect(cluster).toMatchObject({ name: "Katherine", pinned: true });
  await name.fill("");
  await save.click();
  await expect(page.locator(".titles .name")).toHaveText("");
  expect(cluster?.name).toBeUndefined();
});

test("two faces that are apart, with the way between and without", async ({ page, mock, at }) => {
  mock.moving = false;
  const gate = mock.collection("gate-7");
  const [one, other] = [gate.arrive(undefined), gate.arrive(undefined)];
  const hash = `#/gate-7/${one.cluster.id}?a=${encodeURIComponent(one.id)}&b=${encodeURIComponent(other.id)}`;
  await page.goto(`${at}/${hash}`);
  await expect(page.locator(".verdict")).toContainText(`Apart, in #${one.cluster.id} and #${other.cluster.id}.`);
  await page.getByRole("button", { name: "Clear" }).click();
  await expect(page.locator(".answer")).toContainText("Pick two faces");
});

test("the picture is driven by keys", async ({ page, mock, at }) => {
  mock.moving = false;
  await page.goto(`${at}/#/gate-7/1`);
  const dots = page.locator(".face-dot");
  await expect(dots.first()).toBeVisible();
  await expect(page.locator('.face-dot[tabindex="0"]')).toHaveCount(1);
  await page.locator('.face-dot[tabindex="0"]').focus();
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/\?a=/);
  const start = await page.locator(".face-dot:focus").getAttribute("data-key");
  for (const key of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]) await page.keyboard.press(key);
  await expect(page.locator(".face-dot:focus")).toHaveCount(1);
  if ((await page.locator(".face-dot:focus").getAttribute("data-key")) === start)
    await page.keyboard.press("ArrowLeft");
  await page.keyboard.press(" ");
  await expect(page.locator(".verdict")).toContainText(/Together|Apart/);
});

test("the feed can be filtered and paused", async ({ page, mock, at }) => {
  await page.goto(`${at}/#/lobby`);
  const rows = page.locator(".feed li");
  await expect(rows.first()).toBeVisible();
  for (const kind of ["created", "joined", "split", "left", "erased", "settled"])
    await page.getByLabel(kind, { exact: true }).uncheck();
  await expect(rows.first()).toContainText("merged");
  expect(new Set(await rows.locator(".type").allTextContents())).toEqual(new Set(["merged"]));
  await page.getByLabel("joined", { exact: true }).check();
  await page.getByRole("button", { name: "Pause" }).click();
  const newest = await rows.first().getAttribute("data-key");
  const now = mock.collection("lobby").sequence;
  await expect.poll(() => mock.collection("lobby").sequence).toBeGreaterThan(now + 40);
  await expect(rows.first()).toHaveAttribute("data-key", newest ?? "");
  await page.getByRole("button", { name: "Pause" }).click();
  await expect(rows.first()).not.toHaveAttribute("data-key", newest ?? "");
});

test("the chosen theme stays", async ({ page, at }) => {
  await page.emulateMedia({ colorScheme: "light" });
  await page.goto(at);
  await page.getByRole("button", { name: "Switch to the dark theme" }).click();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
  await page.reload();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
  await page.getByRole("button", { name: "Switch to the light theme" }).click();
  await expect(page.locator("html")).toHaveAttribute("data-theme", "light");
});
