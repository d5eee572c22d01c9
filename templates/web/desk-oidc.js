// Brings the answer of the sign-in service back, so that nobody has to press a button for it.

"use strict";

document.getElementById("back").requestSubmit();
