// Drives a running server with the clients that Node has: openai, Anthropic's, ollama and the AI SDK.
//
//     npm install --prefix tools/clients/node
//     illava serve -m models/demo/text.gguf -mm models/demo/mmproj.gguf --port 8080
//     node tools/clients/node/check.mjs http://127.0.0.1:8080 models/demo/images/crowd-448.png
//
// Needs any model that sees; what it answers is shown, and only its form is judged.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import OpenAI from 'openai';
import Anthropic from '@anthropic-ai/sdk';
import { Ollama } from 'ollama';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, jsonSchema, Output, streamText, tool } from 'ai';

const [server, file] = process.argv.slice(2);
const picture = (await readFile(file)).toString('base64');
const url = `data:image/png;base64,${picture}`;
const parameters = {
  type: 'object', properties: { city: { enum: ['Paris', 'Rome'] } }, required: ['city'], additionalProperties: false,
};
const openai = new OpenAI({ baseURL: `${server}/v1`, apiKey: 'any' });
const anthropic = new Anthropic({ baseURL: server, apiKey: 'any' });
const ollama = new Ollama({ host: server });
const sdk = createOpenAICompatible({ name: 'here', baseURL: `${server}/v1`, apiKey: 'any' });
const about = [{ type: 'image_url', image_url: { url } }, { type: 'text', text: 'What is it?' }];

const checks = {
  async 'openai chat'() {
    const stream = await openai.chat.completions.create({
      model: 'any', max_tokens: 16, stream: true, messages: [{ role: 'user', content: about }],
    });
    let text = '';
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
    return text;
  },
  async 'openai tools'() {
    const answer = await openai.chat.completions.create({
      model: 'any', tool_choice: 'required', messages: [{ role: 'user', content: 'Paris?' }],
      tools: [{ type: 'function', function: { name: 'weather', parameters } }],
    });
    const call = answer.choices[0].message.tool_calls[0].function;
    assert.ok(['Paris', 'Rome'].includes(JSON.parse(call.arguments).city));
    return call.arguments;
  },
  async 'openai structured'() {
    const answer = await openai.chat.completions.create({
      model: 'any', messages: [{ role: 'user', content: about }],
      response_format: { type: 'json_schema', json_schema: { name: 'x', schema: parameters, strict: true } },
    });
    assert.ok(['Paris', 'Rome'].includes(JSON.parse(answer.choices[0].message.content).city));
    return answer.choices[0].message.content;
  },
  async 'openai responses'() {
    const stream = openai.responses.stream({ model: 'any', input: 'Say something.', max_output_tokens: 16 });
    const last = await stream.finalResponse();
    return last.output_text;
  },
  async 'anthropic messages'() {
    const content = [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: picture } }, { type: 'text', text: 'What is it?' }];
    const stream = anthropic.messages.stream({ model: 'any', max_tokens: 16, messages: [{ role: 'user', content }] });
    return stream.finalText();
  },
  async 'anthropic tools'() {
    const stream = anthropic.messages.stream({
      model: 'any', max_tokens: 99, messages: [{ role: 'user', content: 'Paris?' }],
      tools: [{ name: 'weather', input_schema: parameters }], tool_choice: { type: 'any' },
    });
    const call = (await stream.finalMessage()).content.at(-1);
    assert.ok(['Paris', 'Rome'].includes(call.input.city));
    return JSON.stringify(call.input);
  },
  async 'ollama chat'() {
    const stream = await ollama.chat({
      model: 'any', stream: true, options: { num_predict: 16 }, messages: [{ role: 'user', content: 'What is it?', images: [picture] }],
    });
    let text = '';
    for await (const part of stream) text += part.message.content;
    return text;
  },
  async 'ollama tools'() {
    const tools = [{ type: 'function', function: { name: 'weather', description: 'Tells it.', parameters } }];
    // Ollama has no tool_choice: among the options the server reads one, for models that do not call by themselves.
    const options = { num_predict: 64, tool_choice: 'required' };
    const messages = [{ role: 'user', content: 'Paris?' }];
    const { message } = await ollama.chat({ model: 'any', messages, tools, options });
    const [call] = message.tool_calls;
    assert.ok(call.function.name === 'weather' && ['Paris', 'Rome'].includes(call.function.arguments.city));
    const back = { role: 'tool', tool_name: 'weather', content: 'Sun.' };
    await ollama.chat({ model: 'any', messages: [...messages, message, back], tools, options: { num_predict: 8 } });
    return JSON.stringify(call.function);
  },
  async 'ollama structured'() {
    const { message } = await ollama.chat({ model: 'any', format: parameters, messages: [{ role: 'user', content: 'A city.' }] });
    assert.ok(['Paris', 'Rome'].includes(JSON.parse(message.content).city));
    return message.content;
  },
  async 'AI SDK tools'() {
    const { toolCalls } = await generateText({
      model: sdk('any'), prompt: 'Paris?', toolChoice: 'required',
      tools: { weather: tool({ description: 'Tells it.', inputSchema: jsonSchema(parameters) }) },
    });
    assert.ok(['Paris', 'Rome'].includes(toolCalls[0].input.city));
    return JSON.stringify(toolCalls[0].input);
  },
  async 'AI SDK structured'() {
    const strict = createOpenAICompatible({ name: 'here', baseURL: `${server}/v1`, apiKey: 'any', supportsStructuredOutputs: true });
    const { output } = await generateText({
      model: strict('any'), prompt: 'A city.', output: Output.object({ schema: jsonSchema(parameters) }),
    });
    assert.ok(['Paris', 'Rome'].includes(output.city));
    return JSON.stringify(output);
  },
  async 'AI SDK text'() {
    const image = new Uint8Array(Buffer.from(picture, 'base64'));
    const { text } = await generateText({
      model: sdk('any'), maxOutputTokens: 16,
      messages: [{ role: 'user', content: [{ type: 'image', image, mediaType: 'image/png' }, { type: 'text', text: 'What is it?' }] }],
    });
    return text;
  },
  async 'AI SDK stream'() {
    let text = '';
    for await (const part of streamText({ model: sdk('any'), maxOutputTokens: 16, prompt: 'Say something.' }).textStream) text += part;
    return text;
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    console.log(`${name}: ${JSON.stringify(await check())}`);
  } catch (error) {
    failed += 1;
    console.log(`${name}: FAILED: ${error}`);
  }
}
const all = Object.keys(checks).length;
console.log(`${all - failed} of ${all} checks passed`);
process.exit(failed ? 1 : 0);
