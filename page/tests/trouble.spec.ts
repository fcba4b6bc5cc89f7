// What the page says when the daemon is not as it should be.

import { expect, test } from "./fixtures";

const FAILED = /Failed to load resource|net::ERR/;

test("without a connection the numbers are greyed, and say since when; then all goes on, with nothing missed", async ({
  page,
  mock,
  at,
  watch,
}) => {
  watch.allowed.push(FAILED);
  await page.goto(`${at}/#/lobby`);
  await expect(page.locator(".feed li time").first()).toBeVisible();
  mock.down = true;
  await expect(page.locator(".banner")).toHaveText(
    /^No connection to the daemon since \d\d:\d\d:\d\d\. What you see is from then\./,
  );
  await expect(page.locator(".daemon")).toHaveAttribute("data-old", "");
  await expect(page.locator(".connection")).toHaveText("no connection");
  await expect(page.locator(".feed li").first()).toBeVisible();
  mock.down = false;
  await expect(page.locator(".connection")).toHaveText("live");
  await expect(page.locator(".banner")).toHaveCount(0);
  await expect(page.locator(".daemon")).not.toHaveAttribute("data-old");
  // The latest hundred have no gap: the stream went on after the last event that came.
  const now = mock.collection("lobby").sequence;
  await expect
    .poll(async () => Number(await page.locator(".feed li").first().getAttribute("data-key")))
    .toBeGreaterThan(now);
  const keys = await page
    .locator(".feed li")
    .evaluateAll((rows) => rows.map((row) => Number(row.getAttribute("data-key"))));
  expect(keys).toEqual(keys.map((_, at) => (keys[0] ?? 0) - at));
});

test("a daemon that was never there", async ({ page, mock, at, watch }) => {
  watch.allowed.push(FAILED);
  await page.route(/\/(metrics|v1\/)/, (route) => route.abort("connectionrefused"));
  await page.goto(at);
  await expect(page.locator(".banner")).toHaveText("No connection to the daemon. Trying again every 2 seconds.");
  await page.unroute(/\/(metrics|v1\/)/);
  await expect(page.locator(".feed li").first()).toBeVisible();
  expect(mock.requests).toContain("GET /metrics");
});

test("not ready, and full", async ({ page, mock, at }) => {
  mock.ready = false;
  mock.metrics.full = ["faces"];
  await page.goto(at);
  await expect(page.locator(".connection")).toHaveText("not ready");
  await expect(page.locator(".banner")).toHaveText([
    /^Not ready: the daemon is loading its state/,
    /^Full: the limit of faces is reached/,
  ]);
  mock.ready = true;
  mock.metrics.full = [];
  await expect(page.locator(".banner")).toHaveCount(0);
});

test("a token is asked for, kept for the tab alone, and never in an address", async ({ page, mock, at, watch }) => {
  watch.allowed.push(/401/);
  mock.token = "s3cret";
  await page.goto(`${at}/#/lobby`);
  const dialog = page.getByRole("dialog");
  await expect(dialog).toContainText("This daemon wants a token");
  await dialog.getByLabel("API token").fill("guessed");
  await dialog.getByLabel("API token").press("Enter");
  await expect(dialog).toContainText("not one it knows");
  await dialog.getByRole("button", { name: "Not now" }).click();
  await page.getByRole("button", { name: "Enter token" }).click();
  await dialog.getByLabel("API token").fill("s3cret");
  await dialog.getByRole("button", { name: "Use it" }).click();
  await expect(page.locator(".feed li time").first()).toBeVisible();
  await expect(page.getByRole("button", { name: "Enter token" })).toBeHidden();
  expect(await page.evaluate(() => [JSON.stringify(localStorage), sessionStorage.length])).toEqual(["{}", 1]);
  expect(mock.requests.filter((request) => request.includes("s3cret"))).toEqual([]);
  await page.reload();
  await expect(page.locator(".feed li time").first()).toBeVisible();
  await expect(dialog).toBeHidden();
});

test("what the token's scope does not allow", async ({ page, mock, at, watch }) => {
  watch.allowed.push(/403/);
  mock.forbidden = /^\/metrics|^\/v1\/collections\/gate-7/;
  await page.goto(`${at}/#/gate-7`);
  await expect(page.locator(".banner")).toHaveText("This token may not read the metrics, so the charts stay empty.");
  await expect(page.locator(".collection")).toContainText("This token does not allow it");
  await page.getByLabel("Collection", { exact: true }).selectOption("lobby");
  await expect(page.locator(".clusters tbody tr").first()).toBeVisible();
});

test("a name that may not be given", async ({ page, at, watch }) => {
  watch.allowed.push(/403/);
  await page.route("**/clusters/1", (route) =>
    route.request().method() === "PATCH"
      ? route.fulfill({
          status: 403,
          contentType: "application/problem+json",
          json: { title: "Not allowed", detail: "this token may read only" },
        })
      : route.continue(),
  );
  await page.goto(`${at}/#/lobby/1`);
  await page.getByLabel("Name", { exact: true }).fill("Somebody");
  await page.getByRole("button", { name: "Save name" }).click();
  await expect(page.getByRole("alert")).toHaveText("Not allowed: this token may read only.");
});

test("events that are no longer held", async ({ page, mock, at, watch }) => {
  watch.allowed.push(FAILED);
  mock.moving = false;
  const lobby = mock.collection("lobby");
  mock.heldFrom = lobby.sequence + 1;
  await page.goto(`${at}/#/lobby`);
  await expect.poll(() => lobby.listeners.size).toBe(1);
  lobby.arrive(undefined);
  lobby.arrive(undefined);
  await expect(page.locator(".feed li")).toHaveCount(2);

  mock.down = true;
  await expect.poll(() => lobby.listeners.size).toBe(0);
  lobby.arrive(undefined);
  mock.heldFrom = lobby.sequence + 1;
  mock.down = false;
  await expect.poll(() => lobby.listeners.size).toBe(1);
  lobby.arrive(undefined);
  await expect(page.locator(".feed li")).toHaveCount(3);
  await expect(page.locator(".feed li").nth(1)).toHaveClass("missed");
});

test("an answer that takes its time, and one that is an error", async ({ page, mock, at, watch }) => {
  watch.allowed.push(/500/);
  mock.slow = { path: /collections\/lobby$/, ms: 1500 };
  mock.broken = /\/clusters$/;
  await page.goto(`${at}/#/lobby`);
  await expect(page.locator(".collection")).toContainText("Loading…");
  await expect(page.locator(".clusters-panel")).toContainText("Internal error: the mock was told to fail.");
  mock.broken = undefined;
  await expect(page.locator(".clusters tbody tr").first()).toBeVisible();
});
