// How the page is bundled: a few files, all from where the page itself comes from, nothing inline.
import { defineConfig } from "vitest/config";

// `npm run dev` shows a daemon (or the mock, `npm run mock`) with the sources of this folder.
const daemon = process.env["FACETD_PAGE"] ?? "http://127.0.0.1:9464";

export default defineConfig({
  // Relative, so that the page also works under a path of a proxy.
  base: "./",
  build: {
    target: "es2022",
    // From when light-dark() is known.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // A data: address is not 'self': under the daemon's Content-Security-Policy it would not load.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: { "/v1": daemon, "/metrics": daemon, "/healthz": daemon, "/readyz": daemon },
  },
  test: { include: ["src/**/*.test.ts"] },
});
