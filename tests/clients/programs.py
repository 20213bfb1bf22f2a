"""Programs that speak through somebody else's client: `python programs.py NAME URL HOW TEXT`; the reply is printed.

Each runs in a process of its own, with an environment that has the client; nothing here needs membank-llama. HOW is
whole, streamed, or what else a client can.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

MODEL = "recall-tiny"


def ollama(url: str, how: str, text: str) -> str:
    from ollama import AsyncClient, Client

    messages, options = [{"role": "user", "content": text}], {"temperature": 0, "seed": 1}
    if how == "whole":
        return str(Client(url).chat(MODEL, messages, options=options).message.content)
    if how == "generate":
        return str(Client(url).generate(MODEL, text, options=options).response)
    if how == "streamed":
        parts = Client(url).chat(MODEL, messages, options=options, stream=True)
        return "".join(part.message.content or "" for part in parts)

    async def later() -> str:
        parts = await AsyncClient(url).chat(MODEL, messages, options=options, stream=True)
        return "".join([part.message.content or "" async for part in parts])

    return asyncio.run(later())


def openai_chat(url: str, how: str, text: str) -> str:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="unused")
    messages = [{"role": "user", "content": text}]
    if how == "whole":
        answer = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
        return str(answer.choices[0].message.content)
    with client.chat.completions.stream(model=MODEL, messages=messages, temperature=0) as stream:
        return "".join(event.delta for event in stream if event.type == "content.delta")


def openai_responses(url: str, how: str, text: str) -> str:
    from openai import AsyncOpenAI, OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="unused")
    if how == "whole":
        return client.responses.create(model=MODEL, input=text, temperature=0).output_text
    if how == "streamed":
        with client.responses.stream(model=MODEL, input=text, temperature=0) as stream:
            said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response().output_text
        return said if said == final else f"{said!r} is not {final!r}"

    async def later() -> str:
        events = await AsyncOpenAI(base_url=f"{url}/v1", api_key="unused").responses.create(
            model=MODEL, input=[{"role": "user", "content": text}], temperature=0, stream=True
        )
        return "".join([event.delta async for event in events if event.type == "response.output_text.delta"])

    return asyncio.run(later())


def anthropic(url: str, how: str, text: str) -> str:
    from anthropic import Anthropic, AsyncAnthropic

    asked = {"model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": text}]}
    asked["extra_body"] = {"temperature": 0}  # newer versions of the package have no name for it
    client = Anthropic(base_url=url, api_key="unused")
    if how == "whole":
        counted = client.messages.count_tokens(model=MODEL, messages=asked["messages"]).input_tokens
        answer = client.messages.create(**asked)
        usage = answer.usage
        sent = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        reply = "".join(block.text for block in answer.content)
        return reply if counted == sent else f"{counted} tokens were counted, {sent} were sent"
    if how == "streamed":
        with client.messages.stream(**asked) as stream:
            said = "".join(stream.text_stream)
            final = stream.get_final_message()
        return said if said == final.content[0].text else f"{said!r} is not {final!r}"

    async def later() -> str:
        async with AsyncAnthropic(base_url=url, api_key="unused").messages.stream(**asked) as stream:
            return "".join([part async for part in stream.text_stream])

    return asyncio.run(later())


def _langchain(chat: object, how: str, text: str) -> str:
    if how == "whole":
        return str(chat.invoke(text).text)  # type: ignore[attr-defined]
    return "".join(str(part.text) for part in chat.stream(text))  # type: ignore[attr-defined]


def langchain_ollama(url: str, how: str, text: str) -> str:
    from langchain_ollama import ChatOllama

    return _langchain(ChatOllama(model=MODEL, base_url=url, temperature=0), how, text)


def langchain_openai(url: str, how: str, text: str) -> str:
    from langchain_openai import ChatOpenAI

    # "responses": the same class by the newer API
    chat = ChatOpenAI(
        model=MODEL, base_url=f"{url}/v1", api_key="unused", temperature=0, use_responses_api=how == "responses"
    )
    return _langchain(chat, how, text)


def langchain_anthropic(url: str, how: str, text: str) -> str:
    from langchain_anthropic import ChatAnthropic

    return _langchain(ChatAnthropic(model=MODEL, base_url=url, api_key="unused", temperature=0), how, text)


def _litellm(how: str, text: str, model: str, base: str) -> str:
    import litellm

    litellm.suppress_debug_info = True
    asked = {"model": model, "api_base": base, "api_key": "unused", "temperature": 0}
    messages = [{"role": "user", "content": text}]
    if how == "whole":
        return str(litellm.completion(messages=messages, **asked).choices[0].message.content)
    parts = litellm.completion(messages=messages, stream=True, **asked)
    return "".join(part.choices[0].delta.content or "" for part in parts)


def litellm_ollama(url: str, how: str, text: str) -> str:
    return _litellm(how, text, f"ollama_chat/{MODEL}", url)


def litellm_openai(url: str, how: str, text: str) -> str:
    return _litellm(how, text, f"openai/{MODEL}", f"{url}/v1")


def litellm_anthropic(url: str, how: str, text: str) -> str:
    return _litellm(how, text, f"anthropic/{MODEL}", url)


def llm_ollama(url: str, how: str, text: str) -> str:
    # the command as people run it; LLM_USER_PATH is a folder of the test's
    import subprocess

    command = [sys.executable, "-m", "llm", "-m", f"ollama/{MODEL}", "-o", "temperature", "0", text]
    command += ["--no-stream"] if how == "whole" else []
    done = subprocess.run(command, env={**os.environ, "OLLAMA_HOST": url}, capture_output=True, text=True, timeout=120)
    return done.stdout.strip() or done.stderr


def pydantic_ai(url: str, how: str, text: str) -> str:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=f"{url}/v1", api_key="unused"))
    agent = Agent(model, model_settings={"temperature": 0})
    if how == "whole":
        return str(agent.run_sync(text).output)

    async def later() -> str:
        async with agent.run_stream(text) as stream:
            return "".join([part async for part in stream.stream_text(delta=True)])

    return asyncio.run(later())


def openai_agents(url: str, how: str, text: str) -> str:
    from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="unused")
    agent = Agent(name="one", model=OpenAIResponsesModel(MODEL, client), model_settings=ModelSettings(temperature=0))
    if how == "whole":
        return str(Runner.run_sync(agent, text).final_output)

    async def later() -> str:
        running = Runner.run_streamed(agent, text)
        async for _ in running.stream_events():
            pass
        return str(running.final_output)

    return asyncio.run(later())


def instructor(url: str, how: str, text: str) -> str:
    import instructor
    from openai import OpenAI
    from pydantic import BaseModel

    class Answer(BaseModel):
        city: str

    openai = OpenAI(base_url=f"{url}/v1", api_key="unused")
    model = openai.models.list().data[0].id  # a larger one, that can
    client = instructor.from_openai(openai, mode=instructor.Mode.JSON_SCHEMA)
    messages = [{"role": "user", "content": text}]
    return client.create(model=model, response_model=Answer, messages=messages, temperature=0, max_tokens=60).city


PROGRAMS: dict[str, Callable[[str, str, str], str]] = {
    "anthropic": anthropic,
    "instructor": instructor,
    "langchain-anthropic": langchain_anthropic,
    "langchain-ollama": langchain_ollama,
    "langchain-openai": langchain_openai,
    "litellm-anthropic": litellm_anthropic,
    "litellm-ollama": litellm_ollama,
    "litellm-openai": litellm_openai,
    "llm-ollama": llm_ollama,
    "ollama": ollama,
    "openai-agents": openai_agents,
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "pydantic-ai": pydantic_ai,
}


if __name__ == "__main__":
    name, url, how, text = sys.argv[1:5]
    sys.stdout.write(PROGRAMS[name](url, how, text))
