// Tries the gateway with the unmodified SDKs. Arguments: the gateway's URL and a workload key. Prints one line of JSON for each
// case, {"case", "got"} or {"case", "error"}; node_test.go knows what each must be.
import { once } from 'node:events';
import OpenAI from 'openai';
import Anthropic from '@anthropic-ai/sdk';

const [url, key] = process.argv.slice(2);

// counted counts what an SDK sends.
function counted() {
  const count = { n: 0, last: null };
  count.fetch = async (...args) => {
    count.n++;
    count.last = await fetch(...args);
    return count.last;
  };
  return count;
}

function openai(more = {}) {
  const count = counted();
  return [new OpenAI({ baseURL: url + '/v1', apiKey: key, fetch: count.fetch, ...more }), count];
}

function anthropic(more = {}) {
  const count = counted();
  return [new Anthropic({ baseURL: url, apiKey: key, fetch: count.fetch, ...more }), count];
}

const chat = (text, more = {}) => ({ model: 'demo-small', messages: [{ role: 'user', content: text }], ...more });
const say = (text, more = {}) => ({ model: 'demo-claude', max_tokens: 100, messages: [{ role: 'user', content: text }], ...more });

// failure describes how a call failed: its status, code or type, and how often it was sent.
async function failure(call, count) {
  const began = Date.now();
  try {
    await call();
  } catch (e) {
    return { status: e.status ?? 0, code: e.code ?? e.error?.error?.type ?? '', id: Boolean(e.requestID ?? e.request_id), sent: count.n, waited: Date.now() - began >= 900 };
  }
  return { status: 200, sent: count.n };
}

// broken reads a stream until it fails: by an exception, or in a stream of responses by an event of the type error.
async function broken(stream) {
  let n = 0, last;
  try {
    for await (last of await stream) n++;
  } catch (e) {
    return { failed: true, few: n <= 4 };
  }
  return { failed: last?.type === 'error', few: n <= 4 };
}

const cases = {
  async 'openai chat'() {
    const [c, count] = openai();
    const got = await c.chat.completions.create(chat('hi there'));
    return { text: got.choices[0].message.content, usage: got.usage.total_tokens > 0, receipt: count.last.headers.has('reeve-receipt'), id: Boolean(got._request_id) };
  },
  async 'openai chat with a path'() {
    const [c] = openai({ baseURL: url + '/openai/v1' });
    return (await c.chat.completions.create(chat('hi there'))).choices[0].message.content;
  },
  async 'openai key in another header'() {
    const [c] = openai({ defaultHeaders: { Authorization: null, 'api-key': key } });
    return (await c.chat.completions.create(chat('hi there'))).choices[0].message.content;
  },
  async 'openai stream'() {
    const [c] = openai();
    let text = '', usage = 0;
    for await (const chunk of await c.chat.completions.create(chat('one two three', { stream: true, stream_options: { include_usage: true } }))) {
      text += chunk.choices[0]?.delta?.content ?? '';
      if (chunk.choices.length === 0) usage = chunk.usage.total_tokens;
    }
    return { text, usage: usage > 0 };
  },
  async 'openai responses'() {
    const [c] = openai();
    const made = await c.responses.create({ model: 'demo-small', input: 'four five' });
    const got = await c.responses.retrieve(made.id);
    await c.responses.delete(made.id);
    const gone = await c.responses.retrieve(made.id).catch((e) => e.status);
    return { text: made.output_text, same: got.output_text === made.output_text, gone };
  },
  async 'openai responses stream'() {
    const [c] = openai();
    let text = '', last = '';
    for await (const event of await c.responses.create({ model: 'demo-small', input: 'six seven', stream: true })) {
      last = event.type;
      if (last === 'response.output_text.delta') text += event.delta;
    }
    return { text, last };
  },
  async 'openai embeddings'() {
    const [c] = openai();
    const got = await c.embeddings.create({ model: 'demo-embed', input: 'x' });
    return got.data.length === 1 && got.data[0].embedding.length > 0;
  },
  async 'openai models'() {
    const [c] = openai();
    const ids = [];
    for await (const m of c.models.list()) ids.push(m.id);
    return { ids, got: (await c.models.retrieve('openai/demo-small')).id };
  },
  async 'openai wrong key'() {
    const [c, count] = openai({ apiKey: 'rv_wrong' });
    return failure(() => c.chat.completions.create(chat('hi')), count);
  },
  async 'openai policy'() {
    const [c, count] = openai();
    return failure(() => c.chat.completions.create(chat('hi', { max_tokens: 200000 })), count);
  },
  async 'openai unknown model'() {
    const [c, count] = openai();
    return failure(() => c.chat.completions.create(chat('hi', { model: 'no-such-model' })), count);
  },
  async 'openai retry after'() {
    const [c, count] = openai({ maxRetries: 1, defaultHeaders: { 'x-demo-status': '429', 'x-demo-retry-after': '1' } });
    return failure(() => c.chat.completions.create(chat('hi')), count);
  },
  async 'openai a page instead of a stream'() {
    const [c, count] = openai({ maxRetries: 0, defaultHeaders: { 'x-demo-html': '1' } });
    return failure(() => c.chat.completions.create(chat('hi', { stream: true })), count);
  },
  async 'openai abort'() {
    const [c] = openai({ defaultHeaders: { 'x-demo-break': 'after=2;how=stall' } });
    const stream = await c.chat.completions.create(chat('a b c', { stream: true }));
    for await (const _ of stream) {
      stream.controller.abort();
      break;
    }
    return true;
  },

  async 'anthropic messages'() {
    const [c, count] = anthropic();
    const got = await c.messages.create(say('hi there'));
    return { text: got.content[0].text, usage: got.usage.output_tokens > 0, receipt: count.last.headers.has('reeve-receipt'), id: Boolean(got._request_id) };
  },
  async 'anthropic with a path'() {
    const [c] = anthropic({ baseURL: url + '/anthropic' });
    return (await c.messages.create(say('hi there'))).content[0].text;
  },
  async 'anthropic bearer'() {
    const [c] = anthropic({ apiKey: null, authToken: key });
    return (await c.messages.create(say('hi there'))).content[0].text;
  },
  async 'anthropic both headers'() {
    const [c] = anthropic({ defaultHeaders: { 'x-api-key': key } }); // the SDK itself sends a bearer;
    return (await c.messages.create(say('hi there'))).content[0].text;
  },
  async 'anthropic beta'() {
    const [c] = anthropic();
    const got = await c.beta.messages.create({ ...say('hi there'), betas: ['never-heard-of-2031-01-01'] });
    return got.content[0].text;
  },
  async 'anthropic stream'() {
    const [c] = anthropic();
    const got = await c.messages.stream(say('one two three')).finalMessage();
    return { text: got.content[0].text, usage: got.usage.output_tokens > 0 };
  },
  async 'anthropic count tokens'() {
    const [c] = anthropic();
    const { max_tokens, ...q } = say('a b c');
    return (await c.messages.countTokens(q)).input_tokens > 0;
  },
  async 'anthropic models'() {
    const [c] = anthropic();
    const ids = [];
    for await (const m of c.models.list({ limit: 1 })) ids.push(m.id);
    return { ids, got: (await c.models.retrieve('demo-claude')).id };
  },
  async 'anthropic wrong key'() {
    const [c, count] = anthropic({ apiKey: 'rv_wrong' });
    return failure(() => c.messages.create(say('hi')), count);
  },
  async 'anthropic policy'() {
    const [c, count] = anthropic();
    return failure(() => c.messages.create(say('hi', { max_tokens: 200000 }), { timeout: 60000 }), count);
  },
  async 'anthropic unknown model'() {
    const [c, count] = anthropic();
    return failure(() => c.messages.create(say('hi', { model: 'no-such-model' })), count);
  },
  async 'anthropic retry after'() {
    const [c, count] = anthropic({ maxRetries: 1, defaultHeaders: { 'x-demo-status': '429', 'x-demo-retry-after': '1' } });
    return failure(() => c.messages.create(say('hi')), count);
  },
  async 'anthropic a page instead of a stream'() {
    const [c, count] = anthropic({ maxRetries: 0, defaultHeaders: { 'x-demo-html': '1' } });
    return failure(() => c.messages.create(say('hi', { stream: true })), count);
  },
  async 'anthropic abort'() {
    const [c] = anthropic({ defaultHeaders: { 'x-demo-break': 'after=3;how=stall' } });
    const stream = await c.messages.create(say('a b c', { stream: true }));
    for await (const _ of stream) {
      stream.controller.abort();
      break;
    }
    return true;
  },
};

for (const how of ['', ';how=clean', ';how=error']) {
  cases['openai broken chat' + how] = () => {
    const [c] = openai({ defaultHeaders: { 'x-demo-break': 'after=2' + how } });
    return broken(c.chat.completions.create(chat('a b c d e f', { stream: true })));
  };
  cases['openai broken response' + how] = () => {
    const [c] = openai({ defaultHeaders: { 'x-demo-break': 'after=2' + how } });
    return broken(c.responses.create({ model: 'demo-small', input: 'a b c d', stream: true }));
  };
  cases['anthropic broken stream' + how] = () => {
    const [c] = anthropic({ defaultHeaders: { 'x-demo-break': 'after=3' + how } });
    return broken(c.messages.create(say('a b c d e f', { stream: true })));
  };
}

for (const [name, run] of Object.entries(cases)) {
  let line;
  try {
    line = { case: name, got: await run() };
  } catch (e) {
    line = { case: name, error: String(e?.stack ?? e) };
  }
  if (!process.stdout.write(JSON.stringify(line) + '\n')) await once(process.stdout, 'drain');
}
