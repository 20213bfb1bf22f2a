// node clients.mjs CLIENT URL HOW TEXT: one message through a client from npm, its reply on standard output
const [client, url, how, text] = process.argv.slice(2)
const model = 'recall-tiny'
const messages = [{ role: 'user', content: text }]
const streamed = how === 'streamed'
const say = (piece) => process.stdout.write(piece ?? '')

const clients = {
  ollama: async () => {
    const { Ollama } = await import('ollama')
    const asked = { model, messages, options: { temperature: 0, seed: 1 } }
    const ollama = new Ollama({ host: url })
    if (!streamed) return say((await ollama.chat(asked)).message.content)
    for await (const part of await ollama.chat({ ...asked, stream: true })) say(part.message.content)
  },
  openai: async () => {
    const { default: OpenAI } = await import('openai')
    const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused' })
    if (!streamed) return say((await openai.chat.completions.create({ model, messages, temperature: 0 })).choices[0].message.content)
    for await (const part of await openai.chat.completions.create({ model, messages, temperature: 0, stream: true })) {
      say(part.choices[0]?.delta?.content)
    }
  },
  'openai-responses': async () => {
    const { default: OpenAI } = await import('openai')
    const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused' })
    const asked = { model, input: text, temperature: 0 }
    if (!streamed) return say((await openai.responses.create(asked)).output_text)
    const stream = openai.responses.stream(asked)
    stream.on('response.output_text.delta', (event) => say(event.delta))
    await stream.finalResponse()
  },
  anthropic: async () => {
    const { default: Anthropic } = await import('@anthropic-ai/sdk')
    const anthropic = new Anthropic({ baseURL: url, apiKey: 'unused' })
    const asked = { model, messages, max_tokens: 200, temperature: 0 }
    if (!streamed) return say((await anthropic.messages.create(asked)).content[0].text)
    await anthropic.messages.stream(asked).on('text', say).finalMessage()
  },
  'ai-sdk-ollama': async () => {
    const { generateText, streamText } = await import('ai')
    const { createOllama } = await import('ai-sdk-ollama')
    const asked = { model: createOllama({ baseURL: url })(model), prompt: text, temperature: 0 }
    if (!streamed) return say((await generateText(asked)).text)
    for await (const piece of streamText(asked).textStream) say(piece)
  },
}

await clients[client]()
