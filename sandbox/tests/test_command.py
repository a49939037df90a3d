import pytest

from sandbox.__main__ import main, read_config

SECRETS = {
    "KINGUIN_API_KEY": "k-key",
    "KINGUIN_WEBHOOK_SECRET": "new-hook,old-hook",
    "NOWPAYMENTS_API_KEY": "n-key",
    "NOWPAYMENTS_IPN_SECRET": "new-ipn,old-ipn",
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in ("BITLOOT_ENV_FILE", "BITLOOT_SANDBOX_CONFIG", *SECRETS):
        monkeypatch.delenv(name, raising=False)


def test_sandbox_reads_its_options_and_the_secrets_of_the_file(monkeypatch, tmp_path):
    file = tmp_path / "dev.env"
    file.write_text("# made once\n" + "".join(f"{name}={value}\n" for name, value in SECRETS.items()))
    monkeypatch.setenv("BITLOOT_ENV_FILE", str(file))

    config = read_config(["--port", "9", "--no-enforce-external-id", "--script", "rough"])

    assert (config.port, config.enforce_external_id, config.script) == (9, False, "rough")
    assert (config.kinguin_webhook_secret, config.nowpayments_ipn_secret) == ("new-hook", "new-ipn")
    assert config.kinguin_api_key == "k-key"


def test_environment_wins_over_the_file(monkeypatch, tmp_path):
    file = tmp_path / "dev.env"
    file.write_text("KINGUIN_API_KEY=from-file\nNOWPAYMENTS_API_KEY=n\n")
    monkeypatch.setenv("BITLOOT_ENV_FILE", str(file))
    monkeypatch.setenv("KINGUIN_API_KEY", "from-environment")

    assert read_config([]).kinguin_api_key == "from-environment"


def test_missing_secrets_are_named(capsys):
    with pytest.raises(SystemExit):
        read_config([])
    assert "KINGUIN_API_KEY and NOWPAYMENTS_API_KEY" in capsys.readouterr().err


def test_port_in_use_is_explained(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    def taken(config):
        raise RuntimeError("127.0.0.1:8001 cannot be used: choose another --port.")

    monkeypatch.setattr("sandbox.__main__.run", taken)
    with pytest.raises(SystemExit, match="choose another --port"):
        main([])
