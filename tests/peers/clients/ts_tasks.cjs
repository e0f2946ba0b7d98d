// A client of the TypeScript SDK's first major version that calls one tool as a task, as that SDK has it.
//
// Usage: node ts_tasks.cjs URL TOOL ARGUMENTS. Prints {support, capability, messages, result, asked}: what the SDK's
// stream says of the task, each kind once, its result, and what was asked. It answers: blue, technical.
'use strict';
const { createRequire } = require('node:module');
const path = require('node:path');

const npm = createRequire(path.join(__dirname, '..', '..', '..', '.peers', 'npm', 'package.json'));
const [url, tool, given] = process.argv.slice(2);
const { Client } = npm('@modelcontextprotocol/sdk/client');
const { StreamableHTTPClientTransport } = npm('@modelcontextprotocol/sdk/client/streamableHttp.js');
const schemas = npm('@modelcontextprotocol/sdk/types.js');
const RELATED = 'io.modelcontextprotocol/related-task';

async function main() {
  const asked = [];
  let taskId;
  const client = new Client({ name: 'ts-tasks', version: '1.0.0' }, { capabilities: { elicitation: {} } });
  client.setRequestHandler(schemas.ElicitRequestSchema, async (request) => {
    asked.push([request.params.message, request.params._meta?.[RELATED]?.taskId === taskId]);
    return { action: 'accept', content: { colour: 'blue', interpretation: 'technical' } };
  });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  const capability = client.getServerCapabilities().tasks ?? null;
  const support = (await client.listTools()).tools.find((one) => one.name === tool).execution;
  const call = { name: tool, arguments: JSON.parse(given) };
  const messages = [];
  let result = null;
  const stream = client.experimental.tasks.callToolStream(call, schemas.CallToolResultSchema, { task: { ttl: 60000 } });
  for await (const message of stream) {
    if (message.type === 'taskCreated') taskId = message.task.taskId;
    if (message.type === 'result') result = message.result;
    const said = message.error ? `error ${message.error.message}` : message.task ? message.task.status : '';
    const word = `${message.type} ${said}`.trim();
    if (messages[messages.length - 1] !== word) messages.push(word);
  }
  if (result?._meta?.[RELATED]) result._meta[RELATED].taskId = result._meta[RELATED].taskId === taskId;
  process.stdout.write(JSON.stringify({ support, capability, messages, result, asked }));
  await client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
