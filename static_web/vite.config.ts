import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** The development server's own /config.json; in production whoever serves the files writes it. */
function runtimeConfig(apiUrl: string): Plugin {
  return {
    name: "runtime-config",
    configureServer(server) {
      server.middlewares.use("/config.json", (_request, response) => {
        response.setHeader("Content-Type", "application/json");
        response.end(JSON.stringify({ apiUrl }));
      });
    },
  };
}

export default defineConfig(() => ({
  plugins: [react(), runtimeConfig("http://localhost:7071")],
  resolve: { alias: { "@": new URL("./src", import.meta.url).pathname } },
  server: { port: 4280, strictPort: true },
  build: {
    target: ["chrome123", "edge123", "firefox128", "safari17.5"],
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" as const },
}));
