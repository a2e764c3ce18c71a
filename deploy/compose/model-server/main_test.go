package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRequestsAreCountedByVersionAndCode(t *testing.T) {
	well, ill := newServer("v1", 0), newServer("v2", 1)
	for range 3 {
		well.routes().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/predict", nil))
	}
	ill.routes().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/predict", nil))
	for server, line := range map[*server]string{
		well: "requests_total{version=\"v1\",code=\"200\"} 3\n",
		ill:  "requests_total{version=\"v2\",code=\"500\"} 1\n",
	} {
		recorder := httptest.NewRecorder()
		server.routes().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
		if text := recorder.Body.String(); !strings.Contains(text, line) {
			t.Errorf("no %q in %s", line, text)
		}
	}
}

func TestThePackHoldsAnImageForEachVersion(t *testing.T) {
	archive, err := pack([]byte("a program"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found[header.Name], _ = io.ReadAll(reader)
	}
	var manifest []entry
	if err := json.Unmarshal(found["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	for index, version := range versions {
		var own config
		if err := json.Unmarshal(found[manifest[index].Config], &own); err != nil {
			t.Fatal(err)
		}
		if manifest[index].RepoTags[0] != image+":"+version || own.Config.Env[0] != "VERSION="+version {
			t.Errorf("%v is %v", manifest[index], own)
		}
		if own.RootFS.DiffIDs[0] != "sha256:"+digest(found[manifest[index].Layers[0]]) {
			t.Errorf("the layer of %s is another", version)
		}
	}
}
