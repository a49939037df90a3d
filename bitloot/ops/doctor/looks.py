from bitloot.ops.doctor import machine, services, work
from bitloot.ops.doctor.finding import Look

LOOKS: dict[str, Look] = {
    "configuration": machine.configuration,
    "versions": machine.versions,
    "database": services.database,
    "migrations": machine.migrations,
    "clocks": machine.clocks,
    "broker": services.broker,
    "object store": services.object_store,
    "keys": work.keys,
    "mail": services.mail,
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
