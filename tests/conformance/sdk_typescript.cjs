// The conformance suite's names on the TypeScript SDK's server, written as that SDK's users write servers.
//
// Some tools push their question (ctx.mcpReq.send), which exists on a 2025 connection only; the input_required ones
// return it, which is 2026's way (the SDK turns it into pushed questions for 2025 callers). 2025 callers get a session,
// 2026 ones a fresh server for each request, as the SDK's documentation does it on one endpoint.
//
// Usage: node sdk_typescript.cjs [--port N]; prints "listening on PORT" when it accepts connections on 127.0.0.1.
'use strict';
const { createRequire } = require('node:module');
const { createServer } = require('node:http');
const { randomUUID, randomBytes } = require('node:crypto');
const path = require('node:path');

const npm = createRequire(path.join(__dirname, '..', '..', '.peers', 'npm', 'package.json'));
const { NodeStreamableHTTPServerTransport, toNodeHandler } = npm('@modelcontextprotocol/node');
const {
  acceptedContent, classifyInboundRequest, CLIENT_CAPABILITIES_META_KEY, createMcpHandler, createRequestStateCodec,
  fromJsonSchema, inputRequired, isInitializeRequest, McpServer, ResourceTemplate,
} = npm('@modelcontextprotocol/server');

const RETRY_MS = 100;
const RECONNECT_MS = 200;
const PAUSE_MS = 50;
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
const WAV = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=';

const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
const text = value => ({ type: 'text', text: value });
const image = { type: 'image', data: PNG, mimeType: 'image/png' };
const embedded = (uri, mimeType, value) => ({ type: 'resource', resource: { uri, mimeType, text: value } });
const said = (...content) => ({ content });
const object = (properties = {}, more = {}) => ({ type: 'object', properties, ...more });
const one = (name, type = 'string') => object({ [name]: { type } }, { required: [name] });

// Each tool: description, JSON schema of its arguments, what it does.
const fixed = {
  test_simple_text: said(text('This is a simple text response for testing.')),
  test_image_content: said(image),
  test_audio_content: said({ type: 'audio', data: WAV, mimeType: 'audio/wav' }),
  test_embedded_resource: said(embedded('test://embedded-resource', 'text/plain', 'An embedded resource.')),
  test_multiple_content_types: said(
    text('Multiple content types test:'), image,
    embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
  ),
  test_streaming_elicitation: said(text('nothing was asked')),
};

const defaults = object({
  name: { type: 'string', description: 'User name', default: 'John Doe' },
  age: { type: 'integer', description: 'User age', default: 30 },
  score: { type: 'number', description: 'User score', default: 95.5 },
  status: { type: 'string', description: 'User status', enum: ['active', 'inactive', 'pending'], default: 'active' },
  verified: { type: 'boolean', description: 'Verification status', default: true },
});
const titled = [{ const: 'value1', title: 'First' }, { const: 'value2', title: 'Second' }];
const enums = object({
  untitledSingle: { type: 'string', enum: ['option1', 'option2'] },
  titledSingle: { type: 'string', oneOf: titled },
  legacyEnum: { type: 'string', enum: ['opt1', 'opt2'], enumNames: ['Option One', 'Option Two'] },
  untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2'] } },
  titledMulti: { type: 'array', items: { anyOf: titled } },
});
const schema2020 = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: { address: { $anchor: 'addressDef', ...object({ street: { type: 'string' }, city: { type: 'string' } }) } },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
};

const sampling = (prompt, maxTokens = 100) => ({
  messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens,
});
const nameForm = { message: 'What is your name?', requestedSchema: one('name') };

/** Ask in the middle of the call, on the call's own stream: a 2025 connection only. */
async function push(ctx, method, params) {
  try {
    return said(text(`answered: ${JSON.stringify(await ctx.mcpReq.send({ method, params }))}`));
  } catch (error) {
    return said(text(`not supported: ${error instanceof Error ? error.message : error}`));
  }
}

const codec = createRequestStateCodec({ key: randomBytes(32) });

/** Return one question until the client has answered it with an accepted form. */
const asking = (key, form, state) => async (_, ctx) => {
  const answer = acceptedContent(ctx.mcpReq.inputResponses, key);
  if (answer !== undefined) return said(text(`${state ? 'state-ok' : 'got'}: ${JSON.stringify(answer)}`));
  const requestState = state && (await codec.mint({ state }));
  return inputRequired({ inputRequests: { [key]: inputRequired.elicit(form) }, ...(state && { requestState }) });
};

/** The same for a question that is no form. */
const wanting = (key, question) => async (_, ctx) => {
  const answer = ctx.mcpReq.inputResponses?.[key];
  return answer === undefined
    ? inputRequired({ inputRequests: { [key]: question } }) : said(text(JSON.stringify(answer)));
};

async function threeAtOnce(_, ctx) {
  const given = ctx.mcpReq.inputResponses ?? {};
  if (['user_name', 'greeting', 'client_roots'].every(key => key in given)) return said(text('all were answered'));
  return inputRequired({
    inputRequests: {
      user_name: inputRequired.elicit(nameForm),
      greeting: inputRequired.createMessage(sampling('Generate a greeting', 50)),
      client_roots: inputRequired.listRoots(),
    },
    requestState: await codec.mint({ state: 'asked for three' }),
  });
}

async function twoRounds(_, ctx) {
  const round = ctx.mcpReq.requestState()?.round ?? 0;
  if (round === 2) return said(text('both were answered'));
  const form = round === 0
    ? nameForm : { message: 'What is your favorite color?', requestedSchema: one('color') };
  return inputRequired({
    inputRequests: { [`step${round + 1}`]: inputRequired.elicit(form) },
    requestState: await codec.mint({ round: round + 1 }),
  });
}

async function whatIsDeclared(_, ctx) {
  const declared = ctx.mcpReq.envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {};
  const inputRequests = {
    ...(declared.elicitation && { user_name: inputRequired.elicit(nameForm) }),
    ...(declared.sampling && { greeting: inputRequired.createMessage(sampling('Say hello', 50)) }),
    ...(declared.roots && { client_roots: inputRequired.listRoots() }),
  };
  return Object.keys(inputRequests).length ? inputRequired({ inputRequests }) : said(text('nothing can be asked'));
}

async function logging(_, ctx) {
  for (const message of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
    await ctx.mcpReq.log('info', message);
    await pause(PAUSE_MS);
  }
  return said(text('logged'));
}

async function progress(_, ctx) {
  const progressToken = ctx.mcpReq._meta?.progressToken;
  for (const done of progressToken === undefined ? [] : [0, 50, 100]) {
    const params = { progressToken, progress: done, total: 100, message: `Completed step ${done} of 100` };
    await ctx.mcpReq.notify({ method: 'notifications/progress', params });
    await pause(PAUSE_MS);
  }
  return said(text('done'));
}

/** End the call's stream in the middle, so that the client comes back for the answer. */
async function reconnection(_, ctx) {
  sessions.get(ctx.sessionId)?.closeSSEStream(ctx.mcpReq.id);
  await pause(RECONNECT_MS);
  return said(text('Reconnection test completed'));
}

const CONFIRM = { message: 'Please confirm', requestedSchema: one('ok', 'boolean') };
const TOOLS = {
  test_error_handling: [object(), async () => {
    throw new Error('This tool intentionally returns an error for testing');
  }],
  test_tool_with_logging: [object(), logging],
  test_logging_tool: [object(), logging],
  test_tool_with_progress: [object(), progress],
  test_reconnection: [object(), reconnection],
  test_sampling: [one('prompt'), ({ prompt }, ctx) => push(ctx, 'sampling/createMessage', sampling(prompt))],
  test_elicitation: [one('message'), ({ message }, ctx) =>
    push(ctx, 'elicitation/create', { message, requestedSchema: one('response') })],
  test_elicitation_sep1034_defaults: [object(), (_, ctx) =>
    push(ctx, 'elicitation/create', { message: 'Please review the defaults', requestedSchema: defaults })],
  test_elicitation_sep1330_enums: [object(), (_, ctx) =>
    push(ctx, 'elicitation/create', { message: 'Please choose', requestedSchema: enums })],
  json_schema_2020_12_tool: [schema2020, async args => said(text(JSON.stringify(args)))],
  test_x_mcp_header: [object({ region: { type: 'string', 'x-mcp-header': 'Region' } }), async ({ region }) =>
    said(text(`region=${region}`))],
  test_missing_capability: [object(), wanting('answer', inputRequired.createMessage(sampling('Reply: pong', 16)))],
  test_input_required_result_elicitation: [object(), asking('user_name', nameForm)],
  test_input_required_result_sampling: [object(),
    wanting('capital_question', inputRequired.createMessage(sampling('What is the capital of France?')))],
  test_input_required_result_list_roots: [object(), wanting('client_roots', inputRequired.listRoots())],
  test_input_required_result_request_state: [object(), asking('confirm', CONFIRM, 'remembered')],
  test_input_required_result_tampered_state: [object(), asking('confirm', CONFIRM, 'sealed')],
  test_input_required_result_multiple_inputs: [object(), threeAtOnce],
  test_input_required_result_multi_round: [object(), twoRounds],
  test_input_required_result_capabilities: [object(), whatIsDeclared],
  test_trigger_tool_change: [object(), async () => {
    modern.notify.toolsChanged();
    return said(text('tool list changed'));
  }],
  test_trigger_prompt_change: [object(), async () => {
    modern.notify.promptsChanged();
    return said(text('prompt list changed'));
  }],
};

const CAPABILITIES = {
  tools: { listChanged: true },
  resources: { subscribe: true, listChanged: true },
  prompts: { listChanged: true },
  logging: {},
  completions: {},
};

function makeServer() {
  const server = new McpServer(
    { name: 'conformance-typescript-sdk', version: '1.0.0' },
    { capabilities: CAPABILITIES, requestState: { verify: codec.verify } },
  );
  for (const [name, answer] of Object.entries(fixed)) {
    server.registerTool(name, { description: 'Always answers the same.' }, async () => answer);
  }
  for (const [name, [schema, run]] of Object.entries(TOOLS)) {
    server.registerTool(name, { description: name, inputSchema: fromJsonSchema(schema) }, run);
  }
  addPrompts(server);
  addResources(server);
  server.server.setRequestHandler('resources/subscribe', async () => ({}));
  server.server.setRequestHandler('resources/unsubscribe', async () => ({}));
  server.server.setRequestHandler('logging/setLevel', async () => ({}));
  server.server.setRequestHandler('completion/complete', async () => ({
    completion: { values: [], total: 0, hasMore: false },
  }));
  return server;
}

function addPrompts(server) {
  const user = (...content) => ({ messages: content.map(block => ({ role: 'user', content: block })) });
  const strings = (...names) =>
    fromJsonSchema(object(Object.fromEntries(names.map(name => [name, { type: 'string' }])), { required: names }));
  const simple = { description: 'A prompt without arguments.' };
  server.registerPrompt('test_simple_prompt', simple, async () => user(text('This is a simple prompt for testing.')));
  server.registerPrompt('test_prompt_with_image', simple, async () => user(image, text('Please analyze the image.')));
  server.registerPrompt(
    'test_prompt_with_arguments', { description: 'Two arguments.', argsSchema: strings('arg1', 'arg2') },
    async ({ arg1, arg2 }) => user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
  );
  server.registerPrompt(
    'test_prompt_with_embedded_resource', { description: 'An argument.', argsSchema: strings('resourceUri') },
    async ({ resourceUri }) => user(embedded(resourceUri, 'text/plain', 'Embedded.'), text('Please process it.')),
  );
  server.registerPrompt('test_input_required_result_prompt', simple, async ctx => {
    const answer = acceptedContent(ctx.mcpReq.inputResponses, 'user_context');
    if (answer !== undefined) return user(text(`Use this context: ${answer.context}`));
    const form = { message: 'What context should the prompt use?', requestedSchema: one('context') };
    return inputRequired({ inputRequests: { user_context: inputRequired.elicit(form) } });
  });
}

function addResources(server) {
  const resource = (name, uri, mimeType, content) =>
    server.registerResource(name, uri, { mimeType }, async () => ({ contents: [{ uri, mimeType, ...content }] }));
  resource('static-text', 'test://static-text', 'text/plain', { text: 'A text that never changes.' });
  resource('static-binary', 'test://static-binary', 'image/png', { blob: PNG });
  resource('watched-resource', 'test://watched-resource', 'text/plain', { text: 'Watched.' });
  server.registerResource(
    'template', new ResourceTemplate('test://template/{id}/data', { list: undefined }),
    { mimeType: 'application/json' },
    async (uri, { id }) => ({
      contents: [{
        uri: uri.toString(), mimeType: 'application/json',
        text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }),
      }],
    }),
  );
}

/** Every event of every stream, for clients that come back; ids sort as they were given. */
class Replay {
  events = [];

  async storeEvent(streamId, message) {
    this.events.push({ streamId, message });
    return String(this.events.length);
  }

  async replayEventsAfter(lastEventId, { send }) {
    const seen = Number(lastEventId);
    const { streamId } = this.events[seen - 1];
    for (const [place, event] of this.events.entries()) {
      const known = place < seen || event.streamId !== streamId;
      if (!known && Object.keys(event.message ?? {}).length) await send(String(place + 1), event.message);
    }
    return streamId;
  }
}

const sessions = new Map();
const modern = createMcpHandler(() => makeServer());
const serveModern = toNodeHandler(modern);

async function serve(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : undefined;
  const header = name => [request.headers[name]].flat()[0];
  const inbound = request.method === 'POST' && classifyInboundRequest({
    httpMethod: 'POST', protocolVersionHeader: header('mcp-protocol-version'),
    mcpMethodHeader: header('mcp-method'), body,
  });
  if (inbound && inbound.kind !== 'legacy') return serveModern(request, response, body);
  let transport = sessions.get(header('mcp-session-id'));
  if (!transport && body && isInitializeRequest(body)) transport = await newSession();
  if (!transport) {
    const error = { code: -32001, message: 'Session not found' };
    return response.writeHead(404).end(JSON.stringify({ jsonrpc: '2.0', id: null, error }));
  }
  return transport.handleRequest(request, response, body);
}

async function newSession() {
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new Replay(),
    retryInterval: RETRY_MS,
    onsessioninitialized: id => sessions.set(id, transport),
  });
  transport.onclose = () => sessions.delete(transport.sessionId);
  await makeServer().connect(transport);
  return transport;
}

/** DNS rebinding: a page elsewhere must not reach a server on this machine. */
const isLocal = value => value === undefined || /^(https?:\/\/)?(127\.0\.0\.1|localhost)(:\d+)?$/.test(value);

const listener = createServer((request, response) => {
  if (!isLocal(request.headers.host) || !isLocal(request.headers.origin)) return response.writeHead(403).end();
  return serve(request, response).catch(error => {
    process.stderr.write(`${error.stack}\n`);
    if (!response.headersSent) response.writeHead(500).end();
  });
});
const port = Number(process.argv[process.argv.indexOf('--port') + 1]) || 0;
listener.listen(port, '127.0.0.1', () => process.stdout.write(`listening on ${listener.address().port}\n`));
