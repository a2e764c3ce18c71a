// An example of a model server: what it serves is made up, what it exports is not.
module muster.dev/examples/model-server

go 1.26
