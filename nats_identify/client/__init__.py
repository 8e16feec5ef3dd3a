"""The queues of a bot, and the requester that runs in each. Import the queues from `nats_identify`."""
