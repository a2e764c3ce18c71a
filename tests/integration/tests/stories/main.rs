//! The stories of the platform that leave its processes alone; they run side by side.

#[path = "../common/mod.rs"]
mod common;

mod a_bad_version_is_found_out_at_ten_percent;
mod a_bad_version_stops_at_the_canary;
mod a_folder_is_one_unordered_set;
mod a_gang_is_placed_whole_or_not_at_all;
mod a_gang_spans_two_clusters_of_a_region;
mod a_job_grows_and_shrinks;
mod a_release_goes_wave_by_wave;
mod an_old_generation_is_refused;
mod bad_input_names_the_field;
mod children_end_with_their_parent;
mod every_service_speaks_its_whole_api;
mod jobs_overflow_wait_and_cost_what_they_used;
mod one_job_is_one_trace;
mod strangers_are_refused;
mod the_first_day_ends_healthy;
mod the_users_routes_through_a_release;
mod three_deliveries_make_one_release;
mod what_is_changed_by_hand_is_put_right;
