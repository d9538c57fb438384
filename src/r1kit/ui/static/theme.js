// The chosen theme, before anything is drawn.
const theme = localStorage.getItem("r1-theme");
if (theme) document.documentElement.dataset.theme = theme;
