import pytest
from django.core.management import CommandError, call_command


def test_sandbox_is_refused_without_debug(settings):
    settings.DEBUG = False

    with pytest.raises(CommandError, match="only with DEBUG on"):
        call_command("sandbox")


def test_sandbox_starts_with_the_stores_secrets(settings, monkeypatch, tmp_path):
    settings.DEBUG = True
    settings.KINGUIN_WEBHOOK_SECRET = ("new-hook", "old-hook")
    settings.NOWPAYMENTS_IPN_SECRET = ("new-ipn", "old-ipn")
    started = []
    monkeypatch.setattr("bitloot.web.management.commands.sandbox.run", started.append)

    call_command("sandbox", "--port", "9", "--db", str(tmp_path / "x"), "--no-enforce-external-id", "--script", "rough")

    (config,) = started
    assert (config.port, config.enforce_external_id, config.script) == (9, False, "rough")
    assert (config.kinguin_webhook_secret, config.nowpayments_ipn_secret) == ("new-hook", "new-ipn")
    assert config.kinguin_api_key == settings.KINGUIN_API_KEY


def test_port_in_use_is_explained(settings, monkeypatch):
    settings.DEBUG = True

    def taken(config):
        raise RuntimeError("127.0.0.1:8001 cannot be used: choose another --port.")

    monkeypatch.setattr("bitloot.web.management.commands.sandbox.run", taken)

    with pytest.raises(CommandError, match="choose another --port"):
        call_command("sandbox")
