// What every test has: a mock of its own, and an eye on the console and on where requests go.

import { test as base, expect, type Page } from "@playwright/test";
import { Mock } from "../mock/server.mjs";

export interface Watch {
  /** What the console may complain about: the trouble that a test makes. */
  allowed: RegExp[];
}

export const test = base.extend<{ mock: Mock; at: string; watch: Watch }>({
  mock: async ({}, use) => {
    const mock = new Mock();
    await use(mock);
    mock.close();
  },

  /** Where the page is. */
  at: async ({ mock }, use) => {
    await use(await mock.listen(0));
  },

  watch: [
    async ({ page, at }, use) => {
      const watch: Watch = { allowed: [] };
      const { complaints, elsewhere } = watched(page, at);
      await use(watch);
      expect(complaints.filter((text) => !watch.allowed.some((allowed) => allowed.test(text)))).toEqual([]);
      expect(elsewhere).toEqual([]);
    },
    { auto: true },
  ],
});

/** Collects what the console complains about, and requests to anywhere but the daemon. */
export function watched(page: Page, at: string): { complaints: string[]; elsewhere: string[] } {
  const complaints: string[] = [];
  const elsewhere: string[] = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(at).origin) elsewhere.push(request.url());
  });
  return { complaints, elsewhere };
}

export { expect };
