"""Chats of other programs: what was said and shown is taken, in order, and everything else is named."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from support.exports import (
    BEGAN,
    NOW,
    claude_chat,
    claude_message,
    found,
    gpt_chat,
    gpt_message,
    ollama_database,
    planned,
    said,
)

from membank_llama.core.provenance import Provenance, provenance_of
from membank_llama.memory.imports import import_report as reasons
from membank_llama.memory.imports.conversation_memories import UNTIMED
from membank_llama.memory.imports.export_sources import find_exports
from membank_llama.memory.imports.import_report import ImportReport
from membank_llama.memory.imports.told_times import BAD_TIME

CANOE = [("user", "My canoe is green."), ("assistant", "A green canoe it is.")]


# -- ChatGPT


def test_chatgpt_reads_the_branch_that_was_shown_last() -> None:
    chat = gpt_chat(
        [
            None,
            gpt_message("system", "You are ChatGPT."),
            gpt_message("user", "My canoe is green.", at=BEGAN + 1),
            gpt_message("assistant", "A green canoe it is.", at=BEGAN + 2),
        ]
    )
    chat["mapping"]["old"] = {"message": gpt_message("assistant", "Which canoe?", at=BEGAN + 9), "parent": "n2"}
    plan = planned([chat])
    assert said(plan.memories) == CANOE
    assert [memory.created_at for memory in plan.memories] == [BEGAN + 1, BEGAN + 2]
    first = plan.memories[0]
    assert (first.source, first.conversation, first.namespace) == ("chatgpt", "Boats", "default")
    assert [provenance_of(m.role, m.source, m.metadata) for m in plan.memories] == [Provenance.PERSON, Provenance.MODEL]
    assert plan.report.left_out[reasons.BRANCHES].count == 1
    assert plan.report.left_out[reasons.SYSTEM].count == 1


@pytest.mark.parametrize("current", [None, "gone", 7])
def test_without_a_current_node_the_newest_end_is_taken(current: Any) -> None:
    chat = gpt_chat([None, gpt_message("user", "My canoe is green.", at=BEGAN + 1)], current_node=current)
    chat["mapping"]["late"] = {"message": gpt_message("assistant", "Yes, green.", at=BEGAN + 5), "parent": "n1"}
    chat["mapping"]["early"] = {"message": gpt_message("assistant", "Red?", at=BEGAN + 3), "parent": "n1"}
    assert said(planned([chat]).memories) == [("user", "My canoe is green."), ("assistant", "Yes, green.")]


def test_a_tree_that_runs_in_a_circle_ends() -> None:
    chat = gpt_chat([gpt_message("user", "My canoe is green."), gpt_message("assistant", "It is.")])
    chat["mapping"]["n0"]["parent"] = "n1"
    assert said(planned([chat]).memories) == [("user", "My canoe is green."), ("assistant", "It is.")]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (gpt_message("tool", "search results"), reasons.TOOLS),
        (gpt_message("assistant", "print(1)", kind="code"), reasons.TOOLS),
        (gpt_message("assistant", "search(canoes)", recipient="browser"), reasons.TOOLS),
        ({**gpt_message("assistant"), "content": {"content_type": "thoughts", "thoughts": ["hm"]}}, reasons.THINKING),
        (gpt_message("user", "hidden", metadata={"is_visually_hidden_from_conversation": True}), reasons.HIDDEN),
        (gpt_message("user", kind="user_editable_context", user_profile="x"), "custom instructions"),
        (gpt_message("assistant", "q", kind="tether_quote"), "messages of the kind 'tether_quote'"),
        (gpt_message("critic", "hm"), reasons.UNREADABLE),
    ],
)
def test_what_chatgpt_keeps_beside_the_talk_is_left_out_by_name(message: dict[str, Any], reason: str) -> None:
    if "user_profile" in message:
        message["content"]["user_profile"] = message.pop("user_profile")
    plan = planned([gpt_chat([gpt_message("user", "My canoe is green."), message])])
    assert said(plan.memories) == CANOE[:1]
    assert {key: one.count for key, one in plan.report.left_out.items()} == {reason: 1}
    assert plan.report.left_out[reason].examples == ["Boats"]


def test_of_a_message_the_parts_that_are_text_are_taken() -> None:
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    spoken = {"content_type": "audio_transcription", "text": "and it leaks", "direction": "in"}
    message = gpt_message("user", picture, "My canoe is green.", spoken, kind="multimodal_text")
    cited = gpt_message("assistant", "It is\ue200cite\ue202turn0search1\ue201 green【12†source】.")
    plan = planned([gpt_chat([message, cited])])
    assert said(plan.memories) == [("user", "My canoe is green.\nand it leaks"), ("assistant", "It is green.")]
    assert plan.report.left_out[reasons.ATTACHED].count == 1


@pytest.mark.parametrize(
    ("mark", "shown"),
    [
        ('entity\ue202["city","Porto","a city in Portugal"]', "Porto"),
        ("entity\ue202[1", ""),
        ('entity\ue202["city"]', ""),
        ("url\ue202the map\ue202https://example.org", "the map"),
        ("navlist\ue202More\ue202turn0news1", ""),
        ('image_group\ue202{"query":["canoe"]}', ""),
    ],
)
def test_a_name_that_chatgpt_marks_stays_in_its_sentence(mark: str, shown: str) -> None:
    reply = gpt_message("assistant", f"You saw \ue200{mark}\ue201 from the green canoe.")
    assert said(planned([gpt_chat([reply])]).memories) == [("assistant", f"You saw {shown} from the green canoe.")]


def test_a_mark_that_never_ends_takes_no_words_with_it() -> None:
    reply = gpt_message("assistant", "The canoe\ue200cite is green, and it leaks.")
    assert said(planned([gpt_chat([reply])]).memories) == [("assistant", "The canoecite is green, and it leaks.")]


@pytest.mark.parametrize(
    "chat",
    [
        {"mapping": {}},
        {"mapping": {"a": None, "b": 3, "c": {"message": "text"}}},
        {"mapping": {"a": {"message": {"author": None, "content": None}}}, "current_node": "a"},
        {"mapping": {"a": {"message": {"author": {"role": ["x"]}, "content": {"parts": "x"}}}}, "title": 5},
        {"mapping": {"a": {"message": {"content": {"content_type": {}, "parts": [None, 5]}}}}},
    ],
)
def test_what_is_broken_in_an_export_breaks_nothing(chat: dict[str, Any]) -> None:
    whole = gpt_chat([gpt_message("user", "My canoe is green.")])
    assert said(planned([chat, whole, None, "text"]).memories) == CANOE[:1]


# -- names, times, and what is kept


def test_every_conversation_has_a_name_of_its_own_and_keeps_it() -> None:
    def chat(key: str, began: float, text: str, title: str | None = "New chat") -> dict[str, Any]:
        return gpt_chat([gpt_message("user", text)], key=key, create_time=began, title=title)

    older, newer = chat("68c1-aaaa1111", BEGAN, "one"), chat("68c1-bbbb2222", BEGAN + 9, "two")
    untitled = chat("68c1-cccc3333", BEGAN + 5, "three", None)
    plan = planned([newer, untitled, older])
    names = {memory.text: memory.conversation for memory in plan.memories}
    assert names == {"one": "New chat", "three": "68c1-cccc3333", "two": "New chat (bbbb2222)"}
    assert [memory.text for memory in plan.memories] == ["one", "three", "two"], "in the order in which they were said"
    # the bank has a chat of that name, or the same conversation
    assert planned([older], taken={"New chat": ""}).memories[0].conversation == "New chat (aaaa1111)"
    assert planned([older], taken={"New chat": "68c1-aaaa1111"}).memories[0].conversation == "New chat"


def test_a_conversation_without_title_and_id_is_told_from_others() -> None:
    chats = [gpt_chat([gpt_message("user", text)], key="", title=None) for text in ("one", "two")]
    names = [memory.conversation for memory in planned(chats).memories]
    assert len(set(names)) == 2
    assert all(name and name.startswith("chatgpt ") for name in names)


@pytest.mark.parametrize("bad", [57_689 * 365.25 * 86400 * 1e9, -5e11, 1e300, "soon", NOW + 9e6, [1]])
def test_a_time_that_is_none_is_that_of_the_conversation(bad: Any) -> None:
    chat = gpt_chat([gpt_message("user", "My canoe is green.", at=bad), gpt_message("assistant", "It is green.")])
    plan = planned([chat])
    assert [memory.created_at for memory in plan.memories] == pytest.approx([BEGAN, BEGAN], abs=1e-3)
    assert plan.memories[0].created_at < plan.memories[1].created_at  # type: ignore[operator]
    assert plan.report.remarks[BAD_TIME].count == 1
    assert plan.report.remarks[BAD_TIME].examples[0].startswith("Boats")


@pytest.mark.parametrize("scale", [1, 1_000, 1_000_000, 1_000_000_000])
def test_times_in_smaller_units_are_understood(scale: int) -> None:
    chat = gpt_chat([gpt_message("user", "My canoe is green.", at=int(BEGAN) * scale)], create_time=None)
    assert planned([chat]).memories[0].created_at == BEGAN


def test_what_a_chat_here_would_not_keep_is_not_kept() -> None:
    plan = planned(
        [
            gpt_chat(
                [
                    gpt_message("user", "My canoe is green."),
                    gpt_message("assistant", "I'm sorry, but I don't know anything about it."),
                    gpt_message("user", "Please forget that my canoe is green."),
                    gpt_message("assistant", "I have forgotten that your canoe is green."),
                ]
            )
        ]
    )
    assert said(plan.memories) == CANOE[:1]
    assert plan.report.left_out[reasons.EVASIONS].count == 1
    assert plan.report.left_out[reasons.ORDERS].count == 2


def test_long_messages_are_cut_and_what_cannot_be_stored_is_replaced() -> None:
    text = "\n\n".join(f"Paragraph {n} " + "about canoes " * 60 for n in range(4)) + "\0 \ud83d"
    memories = planned([gpt_chat([gpt_message("user", text)])]).memories
    assert len(memories) == 4
    assert memories[-1].text.endswith("\ufffd \ufffd")
    assert {memory.conversation for memory in memories} == {"Boats"}


# -- Claude


def test_claude_messages_by_text_or_by_blocks() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "A green canoe it is."},
        {"type": "tool_use", "name": "search", "input": {}},
        {"type": "tool_result", "content": []},
    ]
    shown = "A green canoe it is.\n```\nThis block is not supported on your current device yet.\n```\n"
    plan = planned(
        [
            claude_chat(
                [
                    claude_message("human", "My canoe is green.", attachments=[{"file_name": "boat.txt"}]),
                    claude_message("assistant", shown, content=blocks),
                    claude_message(
                        "assistant", "\n```\nThis block is not supported on your current device yet.\n```\n"
                    ),
                    {"sender": "nobody"},
                ]
            )
        ]
    )
    assert said(plan.memories) == CANOE
    assert plan.memories[0].source == "claude"
    assert plan.memories[0].created_at == datetime(2025, 1, 2, 3, 4, 6, tzinfo=timezone.utc).timestamp()
    counts = {reason: one.count for reason, one in plan.report.left_out.items()}
    assert counts == {reasons.ATTACHED: 1, reasons.THINKING: 1, reasons.TOOLS: 2, reasons.UNREADABLE: 1}


@pytest.mark.parametrize("leaf", ["It is green.", None])
def test_claude_branches(leaf: str | None) -> None:
    root = "00000000-0000-4000-8000-000000000000"
    messages = [
        claude_message("human", "My canoe is red.", parent_message_uuid=root),
        claude_message("human", "My canoe is green.", parent_message_uuid=root),
        claude_message("assistant", "It is green.", parent_message_uuid="My canoe is green."),
    ]
    plan = planned([claude_chat(messages, current_leaf_message_uuid=leaf)])
    assert said(plan.memories) == [("user", "My canoe is green."), ("assistant", "It is green.")]
    assert plan.report.left_out[reasons.BRANCHES].count == 1


# -- Open WebUI


def webui_nodes() -> dict[str, Any]:
    thought = '<details type="reasoning" done="true" duration="3">\n<summary>Thought</summary>\n> hm\n</details>\n'
    return {
        "a": {"id": "a", "parentId": None, "role": "user", "content": "My canoe is green.", "timestamp": int(BEGAN)},
        "b": {"id": "b", "parentId": "a", "role": "assistant", "content": "Which?", "timestamp": int(BEGAN) + 1},
        "c": {
            "id": "c", "parentId": "a", "role": "assistant", "content": f"{thought}A green canoe it is.",
            "timestamp": int(BEGAN) + 2,
        },
    }  # fmt: skip


@pytest.mark.parametrize("current", ["c", None])
def test_open_webui_tree(current: str | None) -> None:
    history = {"messages": webui_nodes(), "currentId": current}
    entry = {"id": "w1", "user_id": "u", "title": "Boats", "chat": {"title": "Boats", "history": history}}
    plan = planned([entry])
    assert said(plan.memories) == CANOE
    assert (plan.memories[0].source, plan.memories[0].created_at) == ("open-webui", BEGAN)
    assert {reason: one.count for reason, one in plan.report.left_out.items()} == {
        reasons.BRANCHES: 1,
        reasons.THINKING: 1,
    }


def test_open_webui_list_and_a_chat_alone() -> None:
    parts = [{"type": "text", "text": "My canoe is green."}, {"type": "image_url", "image_url": {"url": "data:"}}]
    messages = [{"role": "user", "content": parts}, {"role": "system", "content": "Be kind."}]
    plan = planned([{"chat": {"messages": messages}, "created_at": int(BEGAN)}])
    assert said(plan.memories) == CANOE[:1]
    assert plan.memories[0].created_at == BEGAN
    assert plan.report.left_out.keys() == {reasons.ATTACHED, reasons.SYSTEM}
    assert said(planned({"history": {"messages": webui_nodes(), "currentId": "c"}}).memories) == CANOE


def test_a_fold_that_never_ends_and_one_that_a_person_wrote() -> None:
    folded = 'It is green.<details type="tool_calls" done="false"><details>inner</details> never closed'
    own = "<details><summary>Mine</summary>My canoe is green.</details>"
    messages = [{"role": "user", "content": own}, {"role": "assistant", "content": folded}]
    plan = planned([{"chat": {"messages": messages}}])
    assert said(plan.memories) == [("user", own), ("assistant", "It is green.")]


# -- LM Studio, Ollama, lists of messages


def lm_studio() -> dict[str, Any]:
    person = {"type": "singleStep", "role": "user", "content": [{"type": "text", "text": "My canoe is green."}]}
    steps = [
        {"type": "contentBlock", "stepIdentifier": f"{int(BEGAN * 1000)}-0.1", "style": {"type": "thinking"},
         "content": [{"type": "text", "text": "hm"}]},
        {"type": "contentBlock", "content": [{"type": "text", "text": "A green canoe it is."}, {"type": "file"}]},
        {"type": "debugInfoBlock", "debugInfo": "x"},
        {"type": "toolCallRequest", "content": []},
    ]  # fmt: skip
    old = {"type": "multiStep", "role": "assistant", "steps": [{"content": [{"type": "text", "text": "Red?"}]}]}
    new = {"type": "multiStep", "role": "assistant", "senderInfo": {"senderName": "qwen"}, "steps": steps}
    messages = [
        {"versions": [person], "currentlySelected": 0},
        {"versions": [old, new], "currentlySelected": 1},
        {"versions": []},
    ]
    return {"name": "Boats", "createdAt": int(BEGAN * 1000) - 5, "messages": messages, "systemPrompt": ""}


def test_lm_studio_reads_the_version_that_is_shown() -> None:
    plan = planned(lm_studio(), "1735000000000.conversation.json")
    assert said(plan.memories) == CANOE
    assert [memory.created_at for memory in plan.memories] == [BEGAN - 0.005, BEGAN]
    assert plan.memories[0].metadata == {"conversation_id": "1735000000000"}
    counts = {reason: one.count for reason, one in plan.report.left_out.items()}
    assert counts == {reasons.BRANCHES: 1, reasons.THINKING: 1, reasons.TOOLS: 1, reasons.ATTACHED: 1}


def test_a_chat_of_lm_studio_in_which_nothing_was_said_is_one() -> None:
    assert found(lm_studio() | {"messages": []})[0].kind == "lm-studio"


@pytest.mark.parametrize("selected", [-1, 9, True, "1", None])
def test_lm_studio_selections_that_are_none(selected: Any) -> None:
    document = lm_studio()
    document["messages"][1]["currentlySelected"] = selected
    assert said(planned(document).memories) == CANOE


def test_the_database_of_ollamas_app(tmp_path: Path) -> None:
    path = ollama_database(tmp_path / "db.sqlite")
    report = ImportReport(NOW)
    (export,) = find_exports(str(path), report)
    (chat,) = export.conversations
    assert [(message.role, message.text) for message in chat.messages] == CANOE
    at = datetime(2025, 8, 1, 10, 0, 0, 123456, tzinfo=timezone.utc).timestamp()
    assert [message.said_at for message in chat.messages] == pytest.approx([at, at + 1.876544])
    assert {reason: one.count for reason, one in report.left_out.items()} == {
        reasons.THINKING: 1,
        reasons.TOOLS: 1,
        reasons.ATTACHED: 1,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["db.sqlite"], "nothing is made beside another's file"


def test_what_was_typed_into_ollama_run(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("My canoe is green.\n/bye\n\n/set parameter num_ctx 4096\n", encoding="utf-8")
    report = ImportReport()
    (export,) = find_exports(str(path), report)
    assert [(m.role, m.text, m.source) for m in export.memories] == [("user", "My canoe is green.", "ollama")]
    assert export.memories[0].created_at == path.stat().st_mtime
    assert report.left_out["commands of the program"].count == 2


def test_a_chat_that_says_no_time_is_named() -> None:
    messages = [{"role": "user", "content": "My canoe is green."}]
    assert planned(messages, "chat.json").report.remarks[UNTIMED].examples == ["chat.json"]
    assert not planned([messages[0] | {"timestamp": BEGAN}], "chat.json").report.remarks


def test_plain_lists_of_messages() -> None:
    messages = [{"role": "user", "content": "My canoe is green."}, {"role": "tool", "content": "x"}]
    for document in (messages, {"title": "Boats", "messages": messages}, [{"messages": messages}]):
        assert said(planned(document, "talk.json").memories) == CANOE[:1]
    assert planned(messages, "talk.json").memories[0].conversation == "talk.json"


def test_exports_are_known_by_their_shape() -> None:
    kinds = {
        "chatgpt": [gpt_chat([gpt_message("user", "x")])],
        "claude": {"conversations": [claude_chat([claude_message("human", "x")])]},
        "open-webui": [{"chat": {"messages": [{"role": "user", "content": "x"}]}}],
        "lm-studio": lm_studio(),
        "messages": [{"role": "user", "content": "x"}],
        "mem0": {"results": [{"id": "1", "memory": "x"}]},
        "engram": {"version": "1", "sessions": [], "observations": [], "prompts": []},
    }
    assert {kind: found(document, "any.txt")[0].kind for kind, document in kinds.items()} == {k: k for k in kinds}
    # nothing in the shared miniature depends on its order
    assert json.dumps(kinds)
