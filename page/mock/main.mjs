// `npm run mock [PORT]`: the mock by hand, for `npm run dev`, or with the built page.

import { Mock } from "./server.mjs";

const at = await new Mock().listen(Number(process.argv[2] ?? 9464));
console.log(`a mock of facetd, with the page of dist/: ${at}`);
