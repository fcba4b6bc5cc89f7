// Everybody can use it: no finding of axe in any view, theme and width, nothing sticks out on a narrow phone, and every
// control is reached with the Tab key.

import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "./fixtures";

const VIEWS = [
  { name: "overview", hash: "#/lobby", ready: ".clusters tbody tr" },
  { name: "cluster", hash: "#/gate-7/1?a=a%20face&b=100%25%2F%C3%A4%3F%23%26%3D%2B", ready: ".verdict" },
  { name: "one face", hash: "#/gate-7/1?a=a%20face", ready: ".linkages li" },
  { name: "empty collection", hash: "#/empty", ready: ".face.panel h3" },
];

for (const { name, hash, ready } of VIEWS) {
  for (const colorScheme of ["light", "dark"] as const) {
    for (const width of [1440, 390]) {
      test(`axe finds nothing: ${name}, ${colorScheme}, ${width} wide`, async ({ page, at }) => {
        await page.setViewportSize({ width, height: 900 });
        await page.emulateMedia({ colorScheme });
        await page.goto(`${at}/${hash}`);
        await expect(page.locator(ready).first()).toBeVisible();
        await expect(page.locator(".connection")).toHaveText("live");
        const { violations } = await new AxeBuilder({ page }).analyze();
        expect(
          violations.map(({ id, nodes }) => [
            id,
            nodes.map(({ html, failureSummary }) => `${html}\n${failureSummary}`),
          ]),
        ).toEqual([]);
      });
    }
  }
}

test("axe finds nothing in banners and the token dialog", async ({ page, mock, at, watch }) => {
  watch.allowed.push(/401/);
  mock.token = "x";
  await page.goto(at);
  await expect(page.getByRole("dialog")).toBeVisible();
  await expect(page.locator(".banner")).toBeVisible();
  expect((await new AxeBuilder({ page }).analyze()).violations.map(({ id }) => id)).toEqual([]);
});

for (const { name, hash, ready } of [
  ...VIEWS,
  { name: "named and pinned", hash: "#/lobby/1", ready: ".members tbody tr" },
]) {
  test(`nothing sticks out on a narrow phone: ${name}`, async ({ page, at }) => {
    await page.goto(`${at}/${hash}`);
    await expect(page.locator(ready).first()).toBeVisible();
    for (let width = 320; width <= 440; width += 10) {
      await page.setViewportSize({ width, height: 844 });
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
    }
  });
}

for (const hash of ["#/gate-7", "#/gate-7/1?a=a%20face"]) {
  test(`every control is reached with Tab: ${hash}`, async ({ page, mock, at }) => {
    mock.moving = false;
    await page.goto(`${at}/${hash}`);
    await expect(page.locator(hash.includes("?") ? ".linkages li" : ".feed li").first()).toBeVisible();
    const controls = await page.evaluate(() => {
      const all = document.querySelectorAll<HTMLElement>("a[href], button, input, select, .face-dot[tabindex='0']");
      const reachable = [...all].filter((one) => !one.matches(":disabled") && one.checkVisibility());
      reachable.forEach((one, at) => one.setAttribute("data-control", String(at)));
      return reachable.length;
    });
    expect(controls).toBeGreaterThan(20);
    const reached = new Set<string>();
    for (let presses = 0; presses < controls + 20 && reached.size < controls; presses++) {
      await page.keyboard.press("Tab");
      const at = await page.evaluate(() => document.activeElement?.getAttribute("data-control") ?? null);
      if (at !== null) reached.add(at);
    }
    expect(reached.size).toBe(controls);
  });
}
