"""Discord's API: `GET /gateway/bot`, its backoff, the bot's token. It never touches the gateway."""
