"""What real NOWPayments traffic brings, as data: events in; order, payments, timeline, mails, alerts, refunds out."""

from payments.tests.stories.amounts import AMOUNTS
from payments.tests.stories.road import ROAD
from payments.tests.stories.surprises import SURPRISES

# In the order of docs/payments.md.
STORIES = (*ROAD, *AMOUNTS, *SURPRISES)
