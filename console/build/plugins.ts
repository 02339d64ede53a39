/** What the build adds to the bundle: preloaded fonts, the licences of what is in it, and what it was made from. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import type { Plugin } from "vite";

const ROOT = join(import.meta.dirname, "..");

/** Fonts are asked for with the page, not when the style sheet has been read. */
export function preloadFonts(): Plugin {
  return {
    name: "preload-fonts",
    transformIndexHtml: {
      order: "post",
      handler: (_, { bundle }) =>
        Object.keys(bundle ?? {})
          .filter((name) => name.endsWith(".woff2"))
          .toSorted()
          .map((name) => ({
            tag: "link",
            attrs: { rel: "preload", as: "font", type: "font/woff2", href: `/console/${name}`, crossorigin: "" },
            injectTo: "head" as const,
          })),
    },
  };
}

interface Manifest {
  name: string;
  version: string;
  license: string;
  dependencies?: Record<string, string>;
}

function readManifest(name: string): Manifest {
  return JSON.parse(readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8")) as Manifest;
}

/** The texts of the licences of everything that ends up in the bundle. */
export function licences(): Plugin {
  return {
    name: "licences",
    apply: "build",
    generateBundle() {
      const own = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
      const names = [...Object.keys(own.dependencies ?? {})].toSorted();
      const parts = names.map((name) => {
        const { version, license } = readManifest(name);
        const text = readFileSync(join(ROOT, "node_modules", name, "LICENSE"), "utf8").trim();
        return `${name} ${version} (${license})\n\n${text}\n`;
      });
      const head = "The console of FlashKV contains the following, each under its own licence.\n";
      this.emitFile({ type: "asset", fileName: "LICENSES.txt", source: [head, ...parts].join(`\n${"-".repeat(72)}\n\n`) });
    },
  };
}

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((one) => one.isFile())
    .map((one) => join(one.parentPath, one.name));
}

/** What decides what the bundle is; tests/server/test_console.py reads the same list. */
function sources(): string[] {
  const alone = ["index.html", "package.json", "package-lock.json", "vite.config.ts"].map((name) => join(ROOT, name));
  return [...filesUnder(join(ROOT, "src")), ...filesUnder(join(ROOT, "build")), ...alone]
    .map((path) => relative(ROOT, path).split(sep).join("/"))
    .toSorted();
}

/** A digest of the sources, by which a test tells without Node.js that the bundle was made from those there are. */
export function sourcesDigest(): Plugin {
  return {
    name: "sources-digest",
    apply: "build",
    generateBundle() {
      const digest = createHash("sha256");
      for (const name of sources()) {
        const body = createHash("sha256").update(readFileSync(join(ROOT, name))).digest("hex");
        digest.update(`${name} ${body}\n`);
      }
      this.emitFile({ type: "asset", fileName: "sources.sha256", source: `${digest.digest("hex")}\n` });
    },
  };
}
