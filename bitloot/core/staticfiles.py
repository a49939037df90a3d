from whitenoise.storage import CompressedManifestStaticFilesStorage


class ModuleStaticFilesStorage(CompressedManifestStaticFilesStorage):
    """Static files under the names of their content, and compressed; imports between our scripts follow the names."""

    # Without it order.js would ask for "./api.js", which a browser may keep from the release before.
    support_js_module_import_aggregation = True
