package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"runtime"
)

// The images' name, and a tag for each version.
const image = "docker.io/library/model-server"

var versions = []string{"v1", "v2"}

type config struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		User       string
		Env        []string
		Entrypoint []string
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

type entry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Writes this very program as images: a member cluster has no registry to pull from, and k3s imports archives that it finds.
func packFile(file string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	archive, err := pack(content)
	if err != nil {
		return err
	}
	return os.WriteFile(file, archive, 0o644)
}

func pack(program []byte) ([]byte, error) {
	var layer bytes.Buffer
	if err := files(&layer, []file{{"model-server", program, 0o755}}); err != nil {
		return nil, err
	}
	parts := []file{{"layer.tar", layer.Bytes(), 0o644}}
	var manifest []entry
	for _, version := range versions {
		var own config
		own.Architecture, own.OS = runtime.GOARCH, "linux"
		own.Config.User = "65532:65532"
		own.Config.Env = []string{"VERSION=" + version}
		own.Config.Entrypoint = []string{"/model-server"}
		own.RootFS.Type, own.RootFS.DiffIDs = "layers", []string{"sha256:" + digest(layer.Bytes())}
		text, err := json.Marshal(own)
		if err != nil {
			return nil, err
		}
		name := digest(text) + ".json"
		parts = append(parts, file{name, text, 0o644})
		manifest = append(manifest, entry{Config: name, RepoTags: []string{image + ":" + version}, Layers: []string{"layer.tar"}})
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	err = files(&archive, append(parts, file{"manifest.json", text, 0o644}))
	return archive.Bytes(), err
}

type file struct {
	name    string
	content []byte
	mode    int64
}

func files(into *bytes.Buffer, all []file) error {
	writer := tar.NewWriter(into)
	for _, one := range all {
		header := tar.Header{Typeflag: tar.TypeReg, Name: one.name, Size: int64(len(one.content)), Mode: one.mode}
		if err := writer.WriteHeader(&header); err != nil {
			return err
		}
		if _, err := writer.Write(one.content); err != nil {
			return err
		}
	}
	return writer.Close()
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
