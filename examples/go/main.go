// A turn in Go: one request, one reply, and a confirm that starts the window. A shard that has no turn waits and asks again.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

type reply struct {
	Status, Code, Message string
	RetryAfterMs          int64 `json:"retry_after_ms"`
}

func main() {
	shard := os.Getenv("SHARD_IDS") // one shard; with several buckets, the subject ends with shard % max_concurrency
	client, err := nats.Connect(os.Getenv("NATS_URL"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for {
		answer := reply{}
		message, err := client.Request(os.Getenv("IDENTIFY_PREFIX")+".request.0",
			[]byte(`{"shard_id":`+shard+`,"timeout_ms":59000}`), time.Minute)
		if err == nil && json.Unmarshal(message.Data, &answer) == nil && answer.Status == "granted" {
			fmt.Println("identify " + shard) // here the shard sends IDENTIFY, within `use_within_ms` of now
			message.Respond(nil)             // it has left: the window starts
			client.Flush()                   // or the process ends before the confirm is sent
			return
		}
		log.Println("no turn yet:", err, answer.Code, answer.Message) // never taken for a grant
		time.Sleep(max(5*time.Second, time.Duration(answer.RetryAfterMs)*time.Millisecond))
	}
}
