// The other end of tests/xtaci.rs: the real xtaci/smux over stdin and stdout.
//
// Usage: peer client|server STREAMS
//
// Stream i carries one byte, i, and then BULK bytes of noise(i) from the client. What follows
// depends on i modulo 3:
//
//	0  the server sends BULK bytes of noise(128+i) and closes first
//	1  the server sends BULK bytes of noise(128+i) and the client closes first
//	2  the server sends nothing; the client closes right behind its last byte
//
// Exits with status 0 if every byte and every end of stream was as it should be.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/xtaci/smux"
)

const bulk = 1 << 20

func main() {
	time.AfterFunc(time.Minute, func() { fail("not done after a minute") })
	count, err := strconv.Atoi(os.Args[2])
	check(err)
	config := smux.DefaultConfig()
	config.KeepAliveInterval = 5 * time.Millisecond
	var session *smux.Session
	if os.Args[1] == "client" {
		session, err = smux.Client(stdio{}, config)
	} else {
		session, err = smux.Server(stdio{}, config)
	}
	check(err)

	var streams sync.WaitGroup
	for i := 0; i < count; i++ {
		streams.Add(1)
		if os.Args[1] == "client" {
			stream, err := session.OpenStream()
			check(err)
			go func(i int) {
				defer streams.Done()
				client(stream, byte(i))
			}(i)
		} else {
			stream, err := session.AcceptStream()
			check(err)
			go func() {
				defer streams.Done()
				server(stream)
			}()
		}
	}
	streams.Wait()
	// Returns when the peer closes our stdin.
	if _, err := session.AcceptStream(); err == nil {
		fail("one stream too many")
	}
}

func client(stream *smux.Stream, i byte) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		write(stream, []byte{i})
		write(stream, noise(i))
	}()
	switch i % 3 {
	case 0:
		expectNoise(stream, 128+i)
		<-sent
		expectEnd(stream)
	case 1:
		expectNoise(stream, 128+i)
		<-sent
	case 2:
		<-sent
	}
	check(stream.Close())
}

func server(stream *smux.Stream) {
	index := make([]byte, 1)
	_, err := io.ReadFull(stream, index)
	check(err)
	i := index[0]
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if i%3 != 2 {
			write(stream, noise(128+i))
		}
	}()
	expectNoise(stream, i)
	<-sent
	if i%3 != 0 {
		expectEnd(stream)
	}
	check(stream.Close())
}

// noise is the same generator as in xtaci.rs.
func noise(seed byte) []byte {
	state := uint64(seed)
	bytes := make([]byte, bulk)
	for i := range bytes {
		state = state*6364136223846793005 + 1442695040888963407
		bytes[i] = byte(state >> 56)
	}
	return bytes
}

func write(stream *smux.Stream, data []byte) {
	_, err := stream.Write(data)
	check(err)
}

func expectNoise(stream *smux.Stream, seed byte) {
	received := make([]byte, bulk)
	_, err := io.ReadFull(stream, received)
	check(err)
	if !bytes.Equal(received, noise(seed)) {
		fail(fmt.Sprintf("stream %d: received other bytes than were sent", stream.ID()))
	}
}

func expectEnd(stream *smux.Stream) {
	if n, err := stream.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		fail(fmt.Sprintf("stream %d: %d more bytes and %v in place of the end", stream.ID(), n, err))
	}
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "xtaci/smux peer:", message)
	os.Exit(1)
}

type stdio struct{}

func (stdio) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdio) Close() error                { return os.Stdin.Close() }
