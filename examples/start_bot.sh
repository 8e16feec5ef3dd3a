#!/bin/sh
# Starts a bot whose library has no queue of its own when its shard may identify. Usage: start_bot.sh SHARD COMMAND...
#
# NATS_URL, NATS_USER, IDENTIFY_PREFIX and the other variables of a bot say where the queue is. `--within` is the time
# from here to IDENTIFY that the bot needs to start; the coordinators' IDENTIFY_USE_WITHIN must be more than twice that.
#
# As the command of a container, not as an init container: those do not run again when the container alone restarts.
# A session that is lost later is not covered: let the bot exit then, so that it comes through here again.
set -eu
shard=$1
shift
nats-identify wait --within "${WITHIN:-2}" "$shard"
exec "$@"
