//! The same on real parts: a Kafka broker and Kubernetes clusters that `cargo xtask test` builds and starts once.

mod clients;
mod composition;
mod jobs;
mod manifests;
mod parts;
mod release;
mod web;
mod workloads;
mod world;

mod a_batch_job_runs_under_the_real_controllers;
mod a_crd_and_its_object_in_one_bundle;
mod a_moved_run_is_stopped_by_the_cluster_itself;
mod a_policy_holds_in_a_cluster_without_kyverno;
mod an_event_published_by_a_foreign_client_is_understood;
mod field_managers_do_not_fight;
mod foreign_objects_and_foreign_fields_stay;
mod kubectl_works_against_a_simulated_cluster;
mod muster_serves_grpcurl_and_generated_clients;
mod the_api_servers_own_refusal_reaches_the_user;
mod the_compose_file_runs_as_it_is_written;
mod the_contract_holds_against_a_real_api_server;
mod the_deployment_manifests_are_what_was_meant;
mod the_main_job_holds_on_real_parts;
mod the_queue_and_the_namespace_arrive_before_the_job;
mod two_versions_serve_while_weights_split;
mod weights_total_100_at_every_instant;
mod what_controllers_make_is_judged_as_foretold;
