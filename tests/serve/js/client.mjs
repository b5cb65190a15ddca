// OpenAI's own JavaScript client against a Budwood server: every endpoint once. Prints what it got as one JSON object.
import OpenAI from "openai";

const [url, key] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "Where is my parcel?" }];
const found = {};

const { data, response } = await client.chat.completions
  .create({ model: "support", messages, max_tokens: 8, logprobs: true, top_logprobs: 2 })
  .withResponse();
found.chat = data.choices[0].message.content;
found.usage = data.usage;
found.fingerprint = data.system_fingerprint;
found.logprobs = data.choices[0].logprobs.content.length;
found.requestId = data._request_id;
found.release = response.headers.get("x-budwood-release");

found.streamed = "";
const stream = await client.chat.completions.create({
  model: "support", messages, max_tokens: 8, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  found.streamed += chunk.choices[0]?.delta?.content ?? "";
  found.streamedUsage = chunk.usage ?? found.streamedUsage;
}

const completion = await client.completions.create({ model: "support", prompt: "parcel", max_tokens: 8, echo: true });
found.completion = completion.choices[0].text;

found.models = [];
for await (const model of client.models.list()) found.models.push(model.id);
found.model = (await client.models.retrieve("support@production")).id;

for (const [name, body] of Object.entries({ unknown: { model: "nobody", messages }, wrong: { model: "support", messages, n: 0 } })) {
  try {
    await client.chat.completions.create(body);
  } catch (error) {
    found[name] = { kind: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
}
console.log(JSON.stringify(found));
