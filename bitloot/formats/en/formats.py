"""How staff read moments on Django's own pages: with the zone, as ours write them."""

DATETIME_FORMAT = "Y-m-d H:i:s e"
