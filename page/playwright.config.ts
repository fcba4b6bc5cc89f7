// Drives the system's Chromium: nothing is downloaded. CHROMIUM names another one.
import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "tests",
  workers: 1,
  timeout: 60_000,
  expect: { timeout: 15_000 },
  reporter: [["list"]],
  use: {
    launchOptions: { executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium" },
    viewport: { width: 1440, height: 900 },
    trace: "retain-on-failure",
  },
});
