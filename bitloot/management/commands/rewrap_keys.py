from bitloot.management.commands.rotate_keys import Command as RotateKeys


class Command(RotateKeys):
    help = "The earlier name of rotate_keys, for one release. " + RotateKeys.help
