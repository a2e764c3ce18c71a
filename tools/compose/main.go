// Loads a Compose file as the Compose specification's own loader does, and prints the project as JSON: every variable
// resolved, every short form written out, every path absolute. A variable that is set nowhere is an error.
//
//	compose FILE
//
// Variables come from the environment, then from the file .env beside FILE. Profiles are all on.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/loader"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compose FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "compose: %v\n", err)
		os.Exit(1)
	}
}

func run(file string) error {
	unset := map[string]bool{}
	options, err := cli.NewProjectOptions(
		[]string{file},
		cli.WithOsEnv,
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithDefaultProfiles("*"),
	)
	if err != nil {
		return err
	}
	options = withStrictVariables(options, unset)
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	if len(unset) > 0 {
		names := make([]string, 0, len(unset))
		for name := range unset {
			names = append(names, name)
		}
		sort.Strings(names)
		return fmt.Errorf("set nowhere: %s", strings.Join(names, ", "))
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(text))
	return err
}

// A default within the file would hide a variable that .env forgot, so that one counts too.
func withStrictVariables(options *cli.ProjectOptions, unset map[string]bool) *cli.ProjectOptions {
	lookup := func(name string) (string, bool) {
		value, found := options.Environment[name]
		if !found {
			unset[name] = true
		}
		return value, found
	}
	with := cli.WithLoadOptions(func(o *loader.Options) {
		// The files are first looked for with options of their own, which interpolate nothing.
		if o.Interpolate != nil {
			o.Interpolate.LookupValue = lookup
		}
	})
	if err := with(options); err != nil {
		panic(err) // It only appends to a list.
	}
	return options
}
