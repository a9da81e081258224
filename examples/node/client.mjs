// A streaming client of Statewise: reads timesteps, one JSON object a line, and prints what the model answers.
//
//   npm ci
//   echo '{"x": [31900], "time": 533003}' | node client.mjs 127.0.0.1:8001 demand
//
// STATEWISE_TLS_CA names a PEM file of authorities and makes it speak TLS, STATEWISE_BEARER_KEY_FILE one whose first line is the key.
// Every step carries its position. If the stream breaks, what was not answered is sent again on another one: what had run is
// answered with the reply that the server retained, what had not runs now. See docs/protocol.md.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const HERE = fileURLToPath(new URL(".", import.meta.url)); // has google/rpc/status.proto
const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));
const ATTEMPTS = 5;
// How an element type lies in memory, and how it is read: names of typed arrays, little-endian as every machine that runs Node.js.
const ARRAYS = {
  DATA_TYPE_FLOAT32: Float32Array, DATA_TYPE_FLOAT64: Float64Array,
  DATA_TYPE_INT32: Int32Array, DATA_TYPE_INT64: BigInt64Array,
};

const [address, model] = process.argv.slice(2);
if (!address || !model) {
  console.error("usage: node client.mjs HOST:PORT MODEL < timesteps.jsonl");
  process.exit(2);
}

const definition = loader.loadSync("statewise/v1/sequence.proto", {
  includeDirs: [PROTOS, HERE],
  keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true,
});
const { SequenceService } = grpc.loadPackageDefinition(definition).statewise.v1;
const { STATEWISE_TLS_CA: ca, STATEWISE_BEARER_KEY_FILE: keys } = process.env;
const service = new SequenceService(
  address, ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set("x-session-id", randomBytes(16).toString("hex")); // a router brings all calls of one value to one replica
if (keys) metadata.set("authorization", `Bearer ${readFileSync(keys, "ascii").split("\n")[0].trim()}`);

const call = (method, request) =>
  new Promise((done, fail) => service[method](request, metadata, (error, response) => (error ? fail(error) : done(response))));

function encode(spec, value) {
  const Elements = ARRAYS[spec.data_type];
  const one = spec.shape.reduce((product, length) => product * length, 1);
  const flat = [value].flat(Infinity).map((element) => (Elements === BigInt64Array ? BigInt(element) : element));
  if (flat.length !== one) throw new Error(`${spec.name} takes ${one} numbers a timestep, not ${flat.length}`);
  const data = Elements.from(flat);
  return { name: spec.name, data_type: spec.data_type, shape: [1, ...spec.shape], data: Buffer.from(data.buffer) };
}

function decode(tensor) {
  const Elements = ARRAYS[tensor.data_type];
  const bytes = Uint8Array.from(tensor.data); // its own buffer, so that it is aligned
  return Array.from(new Elements(bytes.buffer), Number);
}

class Session {
  constructor(opened) {
    this.id = opened.session_id;
    this.inputs = opened.model.spec.inputs;
    this.window = opened.retained_replies;
    this.tail = opened.position;
    this.unanswered = new Map(); // request id → { request, done, fail }, in the order of sending
    this.broken = 0;
    this.connect();
  }

  connect() {
    this.stream = service.Step(metadata);
    this.stream.on("data", (response) => this.settle(response));
    this.stream.on("error", (error) => this.reconnect(error));
    for (const { request } of this.unanswered.values()) this.stream.write(request);
  }

  reconnect(error) {
    if (++this.broken > ATTEMPTS) {
      for (const { fail } of this.unanswered.values()) fail(error);
      this.unanswered.clear();
    } else if (this.unanswered.size) {
      setTimeout(() => this.connect(), 100 * 2 ** this.broken);
    }
  }

  step(timestep) {
    const inputs = this.inputs.map((spec) => encode(spec, timestep[spec.name]));
    const request = { request_id: this.tail + 1, session_id: this.id, position: this.tail, inputs };
    this.tail += 1;
    return new Promise((done, fail) => {
      this.unanswered.set(request.request_id, { request, done, fail });
      this.stream.write(request);
    });
  }

  settle(response) {
    const { done, fail } = this.unanswered.get(response.request_id);
    this.unanswered.delete(response.request_id);
    this.broken = 0;
    if (response.error) fail(new Error(response.error.message));
    else done(Object.fromEntries(response.outputs.map((tensor) => [tensor.name, decode(tensor)])));
  }

  async close() {
    this.stream.end();
    await call("CloseSession", { session_id: this.id });
  }
}

let session;
try {
  session = new Session(await call("OpenSession", { model }));
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim()) console.log(JSON.stringify(await session.step(JSON.parse(line))));
  }
} catch (error) {
  console.error(`error: ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  await session?.close();
  service.close();
}
