// Calls models with the unmodified SDKs as their environment says, and prints the answers' texts and receipts: one line of JSON for
// each call. ../../sidecar runs it under `reeve exec`.
import OpenAI from 'openai';
import Anthropic from '@anthropic-ai/sdk';

const openai = new OpenAI();
const anthropic = new Anthropic();

function print(name, text, response) {
  console.log(JSON.stringify({ name, text, receipt: response.headers.get('reeve-receipt') }));
}

const chat = { model: 'openai/demo-large', messages: [{ role: 'user', content: 'one two' }] };
{
  const { data, response } = await openai.chat.completions.create(chat).withResponse();
  print('node openai', data.choices[0].message.content, response);
}
{
  const { data, response } = await openai.chat.completions.create({ ...chat, stream: true }).withResponse();
  let text = '';
  for await (const chunk of data) text += chunk.choices[0]?.delta?.content ?? '';
  print('node openai stream', text, response);
}
const message = { model: 'anthropic/demo-claude', max_tokens: 50, messages: [{ role: 'user', content: 'one two' }] };
{
  const { data, response } = await anthropic.messages.create(message).withResponse();
  print('node anthropic', data.content[0].text, response);
}
{
  const { data, response } = await anthropic.messages.create({ ...message, stream: true }).withResponse();
  let text = '';
  for await (const event of data) if (event.type === 'content_block_delta') text += event.delta.text;
  print('node anthropic stream', text, response);
}
