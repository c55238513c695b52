// Preloaded into Azurite. It saves what it knows every five seconds; Azure Storage keeps whatever it has acknowledged.
// This makes queues, tables and the contents of blobs do so too: an answer waits until its change is on disk.
"use strict";

const { join } = require("path");

const source = join(__dirname, "node_modules", "azurite", "dist", "src");
const changes = {
  "queue/persistence/LokiQueueMetadataStore": ["createQueue", "deleteQueue", "insertMessage", "updateMessage", "deleteMessage", "clearMessages"],
  "table/persistence/LokiTableMetadataStore": ["createTable", "deleteTable", "endBatchTransaction"],
  "blob/persistence/LokiBlobMetadataStore": ["createContainer", "createBlob", "deleteBlob", "commitBlockList"],
  "common/persistence/LokiExtentMetadataStore": ["updateExtent"],
};
// What could not be saved is in memory all the same. Whoever looks whether it happened waits until it is on disk.
const looks = {
  "table/persistence/LokiTableMetadataStore": ["queryTableEntities", "queryTableEntitiesWithPartitionAndRowKey"],
};

// Calls made while a save is under way share the next one: Loki throttles them.
const saved = (db) =>
  new Promise((done, failed) =>
    db.saveDatabase((error) => {
      db.unsaved = Boolean(error);
      error ? failed(error) : done();
    }),
  );

function wrap(file, methods, around) {
  const store = require(join(source, file)).default.prototype;
  for (const method of methods) {
    const call = store[method];
    if (typeof call !== "function") throw new Error(`This Azurite has no ${method} in ${file}.`);
    store[method] = function (...args) {
      return around(this.db, () => call.apply(this, args));
    };
  }
}

for (const [file, methods] of Object.entries(changes)) {
  wrap(file, methods, async (db, change) => {
    const result = await change();
    if (db.persistenceMethod !== "memory") await saved(db);
    return result;
  });
}

for (const [file, methods] of Object.entries(looks)) {
  wrap(file, methods, async (db, look) => {
    if (db.unsaved) await saved(db);
    return look();
  });
}
