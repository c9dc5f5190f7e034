package queuetimes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
)

const (
	// maxAnswer bounds how much of an answer is read. A batch that is refused as a
	// whole, with a reason for each document, has a few hundred kilobytes.
	maxAnswer = 16 << 20
	// maxText bounds each text that comes from the endpoint.
	maxText = 300
)

// verdict is what became of one record.
type verdict struct {
	taken bool
	// again means that the record was not taken but may be when it is sent again.
	again bool
	// tooLarge means that a smaller request may be taken.
	tooLarge bool
	// cause is why it was not taken, in words that are the same for all records with
	// that fault; detail is the endpoint's own reason, which may name the document.
	cause, detail string
}

// refusal is the verdict on a request or a document that got this HTTP status.
func refusal(status int, cause, detail string) verdict {
	return verdict{
		again:    status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable,
		tooLarge: status == http.StatusRequestEntityTooLarge,
		cause:    strings.TrimSpace(fmt.Sprintf("%d %s", status, cause)), detail: detail,
	}
}

// post sends one request and returns a verdict for each of its records.
func (r *Reporter) post(ctx context.Context, batch []queued) []verdict {
	body, err := encode(batch)
	if err != nil {
		return all(batch, verdict{cause: "cannot be written as JSON", detail: err.Error()})
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.cfg.URL, body)
	if err != nil {
		// The error would repeat the URL, which may have a password.
		return all(batch, verdict{cause: "metadata.url is no URL"})
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := r.client.Do(req)
	if err != nil {
		return all(batch, unanswered(err))
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	err = errors.Join(err, res.Body.Close())
	if res.StatusCode < http.StatusOK || res.StatusCode >= http.StatusMultipleChoices {
		return all(batch, refusal(res.StatusCode, http.StatusText(res.StatusCode), short(string(answer))))
	}
	if err != nil {
		return all(batch, verdict{cause: "the answer broke off: " + short(err.Error())})
	}
	return read(batch, answer)
}

// encode writes each record as an action and a document. The index is part of the URL.
func encode(batch []queued) (*bytes.Buffer, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	for i := range batch {
		body.WriteString("{\"index\":{}}\n")
		if err := enc.Encode(batch[i].Record); err != nil {
			return nil, err
		}
	}
	return &body, nil
}

// unanswered is the verdict on records whose request was not answered. They are only
// sent again if no connection was made, or they might be stored twice.
func unanswered(err error) verdict {
	var op *net.OpError
	notSent := errors.As(err, &op) && op.Op == "dial"
	return verdict{again: notSent, cause: "no answer: " + short(err.Error())}
}

// bulkAnswer is the part of Elasticsearch's answer that says what became of each
// document, in their order. The request as a whole is answered with 200 even if no
// document was taken.
type bulkAnswer struct {
	// Items has one member each, with the name of the action.
	Items []map[string]struct {
		Status int             `json:"status"`
		Error  json.RawMessage `json:"error"`
	} `json:"items"`
}

// read finds the verdict for each record of a request that was answered with success.
// A record that the answer does not mention counts as not taken.
func read(batch []queued, answer []byte) []verdict {
	var parsed bulkAnswer
	if err := json.Unmarshal(answer, &parsed); err != nil {
		return all(batch, verdict{cause: "the answer is not that of a _bulk request; is metadata.url right?", detail: short(string(answer))})
	}
	missing := verdict{cause: "the answer does not mention every record; is metadata.url right?", detail: short(string(answer))}
	verdicts := all(batch, missing)
	for i := range min(len(batch), len(parsed.Items)) {
		for _, item := range parsed.Items[i] {
			if item.Status != 0 {
				verdicts[i] = judge(item.Status, item.Error)
			}
		}
	}
	return verdicts
}

func judge(status int, fault json.RawMessage) verdict {
	refused := len(fault) > 0 && string(fault) != "null"
	if !refused && status >= http.StatusOK && status < http.StatusMultipleChoices {
		return verdict{taken: true}
	}
	// Old versions give the reason as one text, and that is left to detail.
	var why struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(fault, &why) != nil {
		why.Type = ""
	}
	return refusal(status, short(why.Type), short(string(fault)))
}

func all(batch []queued, v verdict) []verdict { return slices.Repeat([]verdict{v}, len(batch)) }

// short makes one short line of what the endpoint said.
func short(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
	if runes := []rune(text); len(runes) > maxText {
		return string(runes[:maxText]) + "…"
	}
	return text
}
