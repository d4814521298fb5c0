// go-redis and pgx; see README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const secret = "QZQZQZQZ"

func redisWorker(ctx context.Context, port string, number, rounds int) error {
	client := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:" + port, DB: 2, Password: os.Getenv("REDISCLI_AUTH"), PoolSize: 1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer client.Close()
	value := fmt.Sprintf("value:%d", number)
	for range rounds {
		if err := client.Set(ctx, value, secret, 0).Err(); err != nil {
			return err
		}
		if got, err := client.Get(ctx, value).Result(); err != nil || got != secret {
			return fmt.Errorf("got %q: %w", got, err)
		}
		if err := client.HSet(ctx, fmt.Sprintf("hash:%d", number), "field", secret).Err(); err != nil {
			return err
		}
		_, err := client.Pipelined(ctx, func(pipeline redis.Pipeliner) error {
			for part := range 4 {
				pipeline.Set(ctx, fmt.Sprintf("%s:%d", value, part), secret, 0)
			}
			return nil
		})
		if err != nil {
			return err
		}
		_, err = client.TxPipelined(ctx, func(transaction redis.Pipeliner) error {
			for range 3 {
				transaction.Incr(ctx, fmt.Sprintf("count:%d", number))
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = client.LPush(ctx, value, secret).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return fmt.Errorf("a list in a string: %v", err)
		}
	}
	script := "return redis.call('STRLEN', KEYS[1])"
	if length, err := client.Eval(ctx, script, []string{value}).Int(); err != nil || length != len(secret) {
		return fmt.Errorf("length %d: %w", length, err)
	}
	// BLPop of this library rounds to seconds.
	nothing := fmt.Sprintf("nothing:%d", number)
	if err := client.Do(ctx, "BLPOP", nothing, "0.3").Err(); !errors.Is(err, redis.Nil) {
		return fmt.Errorf("something of nothing: %v", err)
	}
	return nil
}

func postgresWorker(ctx context.Context, port string, number, rounds int) error {
	connection, err := pgx.Connect(ctx, "host=127.0.0.1 dbname=shop user=clerk sslmode=disable port="+port)
	if err != nil {
		return err
	}
	defer connection.Close(ctx)
	item := number + 1
	for range rounds {
		rows, err := connection.Query(ctx, "SELECT name FROM items WHERE id <= $1", 3)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(names) != 3 {
			return fmt.Errorf("%v: %w", names, err)
		}
		insert := "INSERT INTO orders (worker, note) VALUES ($1, $2)"
		if _, err = connection.Exec(ctx, insert, number, secret); err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE items SET stock = stock - 1 WHERE id = $1", item)
			return err
		})
		if err != nil {
			return err
		}
		literal := "SELECT count(*) FROM items WHERE name <> '" + secret + "'"
		if _, err = connection.Exec(ctx, literal); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		for range 4 {
			batch.Queue("SELECT stock FROM items WHERE id = $1", item)
		}
		if err = connection.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		var refused *pgconn.PgError
		_, err = connection.Exec(ctx, "SELECT 1 / (id - id) FROM items WHERE id = $1", item)
		if !errors.As(err, &refused) || refused.Code != "22012" {
			return fmt.Errorf("a division by zero: %v", err)
		}
	}
	notes := make([][]any, 10)
	for at := range notes {
		notes[at] = []any{number, secret}
	}
	_, err = connection.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"worker", "note"}, pgx.CopyFromRows(notes))
	if err != nil {
		return err
	}
	var out strings.Builder
	what := fmt.Sprintf("COPY (SELECT note FROM notes WHERE worker = %d LIMIT 10) TO STDOUT", number)
	copied, err := connection.PgConn().CopyTo(ctx, &out, what)
	if err != nil || copied.RowsAffected() != 10 {
		return fmt.Errorf("%v: %w", copied, err)
	}
	return nil
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	kind, port := os.Args[1], os.Args[2]
	rounds, err := strconv.Atoi(os.Args[4])
	if err != nil {
		return err
	}
	worker := redisWorker
	if kind == "postgres" {
		worker = postgresWorker
	}
	for _, text := range strings.Split(os.Args[3], ",") {
		count, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		failures := make([]error, count)
		var all sync.WaitGroup
		for number := range count {
			all.Add(1)
			go func() {
				defer all.Done()
				failures[number] = worker(ctx, port, number, rounds)
			}()
		}
		all.Wait()
		if err := errors.Join(failures...); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
