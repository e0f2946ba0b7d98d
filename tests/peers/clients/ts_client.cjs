// A client of the TypeScript SDK, first (v1) or second (v2) major version, as agents have it.
//
// Usage: node ts_client.cjs v1|v2 URL MODE [TOOL ARGUMENTS]...
// MODE: auto, legacy or a modern revision (v1 knows legacy only). Calls the tools one after the other and prints one
// JSON object: {version, tools, results, progress, logs}. A result is {content, ...} or
// {error: {code, message, data}}.
// With MCP_CANCEL_AFTER_MS set, each call is cancelled after that time.
'use strict';
const { createRequire } = require('node:module');
const path = require('node:path');

const npm = createRequire(path.join(__dirname, '..', '..', '..', '.peers', 'npm', 'package.json'));
const [sdk, url, mode, ...words] = process.argv.slice(2);
const info = { name: `ts-${sdk}-client`, version: '1.0.0' };
const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };

const answers = {
  'elicitation/create': async () => ({ action: 'accept', content: { colour: 'blue', value: 'blue' } }),
  'sampling/createMessage': async () => ({
    role: 'assistant', model: 'none', content: { type: 'text', text: 'hello from the client' },
  }),
  'roots/list': async () => ({ roots: [{ uri: 'file:///tmp', name: 'tmp' }] }),
};

function connectV1(logs) {
  const { Client } = npm('@modelcontextprotocol/sdk/client');
  const { StreamableHTTPClientTransport } = npm('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const schemas = npm('@modelcontextprotocol/sdk/types.js');
  const client = new Client(info, { capabilities });
  client.setRequestHandler(schemas.ElicitRequestSchema, answers['elicitation/create']);
  client.setRequestHandler(schemas.CreateMessageRequestSchema, answers['sampling/createMessage']);
  client.setRequestHandler(schemas.ListRootsRequestSchema, answers['roots/list']);
  client.setNotificationHandler(schemas.LoggingMessageNotificationSchema, (message) => logs.push(message.params.data));
  const transport = new StreamableHTTPClientTransport(new URL(url));
  return { client, transport, version: () => transport.protocolVersion };
}

function connectV2(logs) {
  const { Client, StreamableHTTPClientTransport } = npm('@modelcontextprotocol/client');
  const negotiation = mode === 'auto' || mode === 'legacy' ? mode : { pin: mode };
  const client = new Client(info, { capabilities, versionNegotiation: { mode: negotiation } });
  for (const [method, answer] of Object.entries(answers)) client.setRequestHandler(method, answer);
  client.setNotificationHandler('notifications/message', (message) => logs.push(message.params.data));
  const transport = new StreamableHTTPClientTransport(new URL(url));
  return { client, transport, version: () => client.getNegotiatedProtocolVersion() };
}

async function main() {
  const logs = [];
  const progress = [];
  const { client, transport, version } = sdk === 'v1' ? connectV1(logs) : connectV2(logs);
  await client.connect(transport);
  const tools = (await client.listTools()).tools.map((tool) => tool.name);
  const results = [];
  for (let at = 0; at < words.length; at += 2) {
    const call = { name: words[at], arguments: JSON.parse(words[at + 1]) };
    const options = { onprogress: (step) => progress.push(step.progress) };
    if (process.env.MCP_CANCEL_AFTER_MS) options.signal = AbortSignal.timeout(Number(process.env.MCP_CANCEL_AFTER_MS));
    try {
      results.push(sdk === 'v1' ? await client.callTool(call, undefined, options) : await client.callTool(call, options));
    } catch (error) {
      const { code = null, message = error, data = null } = error;
      results.push({ error: { code, message: String(message), data } });
    }
  }
  process.stdout.write(JSON.stringify({ version: version() ?? null, tools, results, progress, logs }) + '\n');
  await transport.terminateSession?.();
  await client.close();
}

main().catch((error) => {
  process.stderr.write(`${error.stack ?? error}\n`);
  process.exit(1);
});
