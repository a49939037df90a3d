"""Mail over a provider's API, through django-anymail: what EMAIL_URL=anymail+NAME://USER:KEY@HOST stands for."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote

WEBHOOK_USER = "bitloot"  # in the webhook's address; the password there is EMAIL_WEBHOOK_SECRET


@dataclass(frozen=True)
class Provider:
    """Anymail's names for one provider."""

    module: str
    view: str
    key: str = "aws_secret_access_key"
    path: str = "/"  # where the API begins on the host of EMAIL_URL
    user: str = ""  # if the key has two halves
    signing_key: str = ""  # if it signs its webhooks with a secret that it made
    shows_pictures: bool = True  # those that travel with a mail
    takes_letters: bool = True  # beyond ASCII before the @, by anymail's documentation of each provider

    @property
    def backend(self) -> str:
        return f"anymail.backends.{self.module}.EmailBackend"

    @property
    def webhook(self) -> str:
        return f"anymail.webhooks.{self.module}.{self.view}"

    def settings(self, url: SplitResult) -> dict[str, Any]:
        """Return anymail's settings."""
        user, key, host = unquote(url.username or ""), unquote(url.password or ""), url.hostname
        if self.module == "amazon_ses":
            return {"AMAZON_SES_CLIENT_PARAMS": {"region_name": host, self.user: user, self.key: key}}
        named = {f"{self.module.upper()}_API_URL": f"https://{host}{self.path}", self.key: key}
        return {**named, self.user: user} if self.user else named

    def webhook_settings(self, secret: str) -> dict[str, str]:
        if self.signing_key:
            return {self.signing_key: secret}
        return {"WEBHOOK_SECRET": f"{WEBHOOK_USER}:{secret}"}


# SendGrid is missing: anymail no longer supports it. Its SMTP server works like any other.
PROVIDERS = {
    "anymail+brevo": Provider("brevo", "BrevoTrackingWebhookView", "BREVO_API_KEY", "/v3/", shows_pictures=False),
    "anymail+mailgun": Provider(
        "mailgun", "MailgunTrackingWebhookView", "MAILGUN_API_KEY", "/v3/", signing_key="MAILGUN_WEBHOOK_SIGNING_KEY"
    ),
    "anymail+mailjet": Provider(
        "mailjet", "MailjetTrackingWebhookView", "MAILJET_SECRET_KEY", "/v3.1/", user="MAILJET_API_KEY"
    ),
    "anymail+postmark": Provider(
        "postmark", "PostmarkTrackingWebhookView", "POSTMARK_SERVER_TOKEN", takes_letters=False
    ),
    "anymail+resend": Provider("resend", "ResendTrackingWebhookView", "RESEND_API_KEY", takes_letters=False),
    "anymail+ses": Provider(
        "amazon_ses", "AmazonSESTrackingWebhookView", user="aws_access_key_id", takes_letters=False
    ),
}
