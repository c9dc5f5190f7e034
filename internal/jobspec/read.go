package jobspec

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/labapi"
)

// ErrSpec is a spec that makes no sense. Its message is one line that says where and why.
var ErrSpec = errors.New("this is no job that can be submitted")

// ErrMediaType is a Content-Type that is neither JSON nor YAML.
var ErrMediaType = errors.New("the header Content-Type must be application/json or application/yaml")

// schemas hold trees to the types of labapi.
var schemas = huma.NewMapRegistry("#/$defs/", huma.DefaultSchemaNamer)

var (
	jobType, suiteType     = reflect.TypeFor[labapi.JobSpec](), reflect.TypeFor[labapi.SuiteInput]()
	jobSchema, suiteSchema = schemas.Schema(jobType, true, ""), schemas.Schema(suiteType, true, "")
)

// ReadJob reads and checks a job.
func ReadJob(contentType string, text []byte) (job labapi.JobSpec, err error) {
	if err := read(contentType, text, jobType, jobSchema, &job); err != nil {
		return job, err
	}
	return job, CheckJob(&job)
}

// ReadSuite reads and checks a suite with its jobs.
func ReadSuite(contentType string, text []byte) (suite labapi.SuiteInput, err error) {
	if err := read(contentType, text, suiteType, suiteSchema, &suite); err != nil {
		return suite, err
	}
	return suite, CheckSuite(&suite)
}

// read makes a value of a text that fits its type.
func read(contentType string, text []byte, of reflect.Type, schema *huma.Schema, to any) error {
	isYAML, err := isYAML(contentType)
	if err != nil {
		return err
	}
	tree, err := parse(isYAML, text)
	if err != nil {
		// The parsers repeat what they read, which may have line breaks.
		return fmt.Errorf("%w: %s", ErrSpec, strings.Join(strings.Fields(err.Error()), " "))
	}
	tree = plain(tree, of)
	var f faults
	checkKeys("", tree, of, &f)
	if err := f.err(); err != nil {
		return err
	}
	var result huma.ValidateResult
	huma.Validate(schemas, schema, huma.NewPathBuffer([]byte{}, 0), huma.ModeWriteToServer, tree, &result)
	for _, err := range result.Errors {
		var detail *huma.ErrorDetail
		if errors.As(err, &detail) {
			f.add(shown(detail.Location), "%s", detail.Message)
		} else {
			f.add("", "%s", shown(err.Error()))
		}
	}
	if err := f.err(); err != nil {
		return err
	}
	checked, err := json.Marshal(tree)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSpec, err)
	}
	if err := json.Unmarshal(checked, to); err != nil {
		return fmt.Errorf("%w: %w", ErrSpec, err)
	}
	return nil
}

func isYAML(contentType string) (bool, error) {
	if contentType == "" {
		return false, nil
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false, fmt.Errorf("%w, and is %q", ErrMediaType, cut(contentType))
	}
	switch kind {
	case "application/json":
		return false, nil
	case "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml":
		return true, nil
	}
	return false, fmt.Errorf("%w, and is %q", ErrMediaType, cut(contentType))
}

// plain gives numbers and truth values their text where a type wants texts by any key, as
// keyvals do, and makes plain numbers of them elsewhere.
func plain(tree any, of reflect.Type) any {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch v := tree.(type) {
	case map[string]any:
		fields := map[string]reflect.Type{}
		if of.Kind() == reflect.Struct {
			fields = fieldsOf(of)
		}
		for key, value := range v {
			switch field, known := fields[key]; {
			case of.Kind() == reflect.Map && of.Elem().Kind() == reflect.String:
				v[key] = textOf(value)
			case known:
				v[key] = plain(value, field)
			}
		}
	case []any:
		for i := range v {
			if of.Kind() == reflect.Slice {
				v[i] = plain(v[i], of.Elem())
			}
		}
	case written:
		return v.number
	}
	return tree
}

// textOf is the text of a single value.
func textOf(value any) any {
	switch v := value.(type) {
	case written:
		return v.text
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	}
	return value
}

// Schema returns the JSON Schema of a job spec.
func Schema() ([]byte, error) {
	definitions := map[string]*huma.Schema{}
	for name, s := range schemas.Map() {
		if name != "SuiteInput" {
			definitions[name] = s
		}
	}
	return json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "A job of hostsched",
		"$ref":    jobSchema.Ref,
		"$defs":   definitions,
	}, "", "  ")
}
