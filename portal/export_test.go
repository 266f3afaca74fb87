package portal

// RaisedAlerts is raised.
var RaisedAlerts = raised
