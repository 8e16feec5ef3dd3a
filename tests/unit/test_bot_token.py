"""A bot's token, as people give it: from a variable, a file and an argument, all alike."""

import pytest

from coordinator import settings
from coordinator.settings import SettingsError
from nats_identify import LargeBotQueue
from nats_identify.discord.bot_token import BotTokenError, clean_bot_token, decode_bot_token
from tests.tokens import MEANT, TOKEN, WRONG

IN_A_VARIABLE = [name for name in MEANT if "UTF-16" not in name]
WRONG_IN_A_VARIABLE = [name for name in WRONG if name not in {"nothing", "a NUL"}]  # unset, and impossible


@pytest.fixture
def load(monkeypatch):
    """Load the settings from these variables alone."""
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def load_from(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        return settings.load()

    return load_from


@pytest.mark.parametrize("name", MEANT)
def test_a_file_is_taken_as_it_was_meant(load, tmp_path, name):
    file = tmp_path / "token"
    file.write_bytes(MEANT[name])
    assert decode_bot_token(MEANT[name]) == TOKEN
    assert load(DISCORD_TOKEN_FILE=file).token() == TOKEN


@pytest.mark.parametrize("name", IN_A_VARIABLE)
def test_a_variable_and_an_argument_are_taken_as_they_were_meant(load, name):
    text = MEANT[name].decode()
    assert clean_bot_token(text) == TOKEN
    assert load(DISCORD_TOKEN=text).token() == TOKEN
    assert LargeBotQueue(text)._token == TOKEN


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_holds_no_token_is_said(load, tmp_path, name):
    content, said = WRONG[name]
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as caught:
        load(DISCORD_TOKEN_FILE=file).token()
    (line,) = caught.value.lines
    assert line.startswith("DISCORD_TOKEN_FILE: ")
    assert is_silent_about_it(line)


@pytest.mark.parametrize("name", WRONG_IN_A_VARIABLE)
def test_a_variable_that_holds_no_token_is_said(load, name):
    content, said = WRONG[name]
    with pytest.raises(SettingsError, match=said) as caught:
        load(DISCORD_TOKEN=content.decode()).token()
    assert caught.value.lines[0].startswith("DISCORD_TOKEN: ")
    assert is_silent_about_it(str(caught.value))


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_that_is_no_token_is_a_value_error(name):
    content, said = WRONG[name]
    with pytest.raises(ValueError, match=said) as caught:
        LargeBotQueue(content.decode())
    assert is_silent_about_it(str(caught.value))


def test_a_file_that_is_no_text_is_said():
    with pytest.raises(BotTokenError, match="is not text in UTF-8"):
        decode_bot_token(TOKEN.encode() + b"\xff")


def test_a_file_that_cannot_be_read_is_said(load, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    loaded = load(DISCORD_TOKEN_FILE=file)
    file.unlink()
    with pytest.raises(SettingsError, match=r"^DISCORD_TOKEN_FILE: cannot be read \(No such file or directory\); make"):
        loaded.token()


def is_silent_about_it(message):
    return not any(part in message for part in ("hunter2", "MTAw", "the-bot"))
