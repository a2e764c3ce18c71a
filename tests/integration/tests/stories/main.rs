//! The stories of the platform that leave its processes alone; they run side by side.

mod children_end_with_their_parent;
