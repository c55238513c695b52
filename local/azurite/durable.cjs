// Preloaded into Azurite. It saves what it knows every five seconds; Azure Storage keeps whatever it has acknowledged.
// This makes queues (and the contents of messages and blobs) do so too: an answer waits until its change is on disk.
"use strict";

const { join } = require("path");

const source = join(__dirname, "node_modules", "azurite", "dist", "src");
const changes = {
  "queue/persistence/LokiQueueMetadataStore": ["createQueue", "deleteQueue", "insertMessage", "updateMessage", "deleteMessage", "clearMessages"],
  "common/persistence/LokiExtentMetadataStore": ["updateExtent"],
};

// Calls made while a save is under way share the next one: Loki throttles them.
const saved = (db) => new Promise((done, failed) => db.saveDatabase((error) => (error ? failed(error) : done())));

for (const [file, methods] of Object.entries(changes)) {
  const store = require(join(source, file)).default.prototype;
  for (const method of methods) {
    const change = store[method];
    store[method] = async function (...args) {
      const result = await change.apply(this, args);
      if (this.db.persistenceMethod !== "memory") await saved(this.db);
      return result;
    };
  }
}
