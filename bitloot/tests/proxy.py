"""The proxy as it is shipped: deploy/nginx.conf, started by deploy/nginx/start.sh, on loopback."""

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bitloot.tests.services import Nginx, free_port
from tools.dev.devenv import ROOT
from tools.dev.services import find_program


class Proxy(Nginx):
    """Every directive stays as shipped, except addresses and what a test lists in `changes`."""

    def __init__(self, *, web: str, hosts: str = "127.0.0.1", changes: Mapping[str, str] = {}, **variables: str):
        super().__init__()
        self.plain_port = free_port()
        self.scripts = self.folder / "nginx"
        self.acme = self.folder / "acme"
        self.acme.mkdir()
        self.acme.chmod(0o755)
        shutil.copytree(ROOT / "deploy" / "nginx", self.scripts)
        self.ca = write_certificate(self.folder)
        self.folder.chmod(0o755)  # its workers give up root
        self._environment = {"WEB": web, "ALLOWED_HOSTS": hosts, "RESOLVER": "127.0.0.1:1", **variables}
        self.configuration.write_text(self._rendered(changes))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def plain_url(self) -> str:
        return f"http://127.0.0.1:{self.plain_port}"

    def command(self) -> list[str]:
        program = Path(find_program("nginx", "nginx-light"))
        values = self._environment | {
            "NGINX_CONF": str(self.configuration),
            "SITE_CONF": str(self.folder / "site.conf"),
            "PATH": f"{program.parent}:{os.environ.get('PATH', '')}",
        }
        return ["env", *(f"{name}={value}" for name, value in values.items()), "sh", str(self.scripts / "start.sh")]

    def logged(self) -> str:
        return self.process.log.read_text(errors="replace")

    def _rendered(self, changes: Mapping[str, str]) -> str:
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        places = {
            "listen [::]:80": f"listen [::1]:{self.plain_port}",
            "listen [::]:443": f"listen [::1]:{self.port}",
            "listen 80": f"listen 127.0.0.1:{self.plain_port}",
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "/tmp/": f"{self.folder}/",
            "/etc/letsencrypt/live/shop/": f"{self.folder}/",
            "/var/www/acme": str(self.acme),
        }
        for shipped, here in {**places, **changes}.items():
            assert shipped in text, f"deploy/nginx.conf no longer holds {shipped!r}"
            text = text.replace(shipped, here)
        return text


def write_certificate(folder: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1 and shop.example as fullchain.pem and privkey.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("shop.example")]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "fullchain.pem").write_bytes(pem)
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "privkey.pem").write_bytes(key.private_bytes(*formats))
    return folder / "fullchain.pem"
