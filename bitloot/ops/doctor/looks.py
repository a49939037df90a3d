from bitloot.ops.doctor import machine, services, work
from bitloot.ops.doctor.finding import Look
from bitloot.ops.doctor.mail_domain import mail_domain
from bitloot.ops.doctor.wire import wire

LOOKS: dict[str, Look] = {
    "configuration": machine.configuration,
    "versions": machine.versions,
    "database": services.database,
    "replica": services.read_replica,
    "migrations": machine.migrations,
    "clocks": machine.clocks,
    "broker": services.broker,
    "wire": wire,
    "object store": services.object_store,
    "keys": work.keys,
    "stored keys": work.stored_keys,
    "mail": services.mail,
    "mail domain": mail_domain,
    "providers": services.providers,
    "purchases": work.purchases,
    "webhooks": work.webhooks,
    "workers": work.workers,
    "beat": work.beat,
    "alerts": work.alerts,
    "static files": machine.static_files,
    "disk": machine.disk,
    "backup": work.backup,
    "certificate": machine.certificate,
}
