// Ctrl-C: the handler sets a flag, loops ask for it between steps.
#pragma once

namespace resurface {

/// From now on SIGINT and SIGTERM set the flag; a second SIGINT ends the process at once. Called
/// once, on the first thread, before the work starts.
void catch_interrupts();
bool interrupted();
/// Throws Interrupted when the flag is set.
void check_interrupted();
/// Sets or clears the flag, as a signal would.
void set_interrupted(bool value);

}  // namespace resurface
