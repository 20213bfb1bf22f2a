// node chat.mjs URL TEXT [stream] [NAMESPACE]: one message through the ollama package, its reply on standard output
import { Ollama } from 'ollama'

const [host, text, how, namespace] = process.argv.slice(2)
const ollama = new Ollama({ host, headers: namespace ? { 'X-Membank-Namespace': namespace } : {} })
const asked = { model: 'recall-tiny', messages: [{ role: 'user', content: text }], options: { temperature: 0, seed: 1 } }
if (how === 'stream') {
  for await (const part of await ollama.chat({ ...asked, stream: true })) process.stdout.write(part.message.content)
} else {
  process.stdout.write((await ollama.chat(asked)).message.content)
}
