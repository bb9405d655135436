"""One function for each command. Only this room joins the others."""
