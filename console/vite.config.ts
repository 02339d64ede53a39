import { defineConfig } from "vitest/config";
import { licences, preloadFonts, sourcesDigest } from "./build/plugins.ts";

/** Into the package, from where the server serves it; another folder for a look whether that is what was committed. */
const outDir = process.env.CONSOLE_OUT ?? "../src/flash_kv/server/console";

export default defineConfig({
  base: "/console/",
  plugins: [preloadFonts(), licences(), sourcesDigest()],
  build: {
    outDir,
    emptyOutDir: true,
    assetsDir: "",
    // Everything is a file of our own: a data: address would need more than default-src 'self'.
    assetsInlineLimit: 0,
    modulePreload: false,
    target: "es2023",
    reportCompressedSize: false,
  },
  server: { proxy: { "^/(v1|readyz|healthz)": process.env.FLASH_KV_URL ?? "http://127.0.0.1:8480" } },
  test: { include: ["test/**/*.test.ts"] },
});
